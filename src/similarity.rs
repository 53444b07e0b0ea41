//! Similarities of rows on a plan, forward and backward.

use crate::metric::Metric;
use crate::op::Write;
use crate::ops::add_bias::add_bias;
use crate::ops::column_sum::column_sum;
use crate::ops::l2_offset::l2_offset;
use crate::ops::l2_offset_backward::l2_offset_backward;
use crate::ops::matmul::{Layout, Product, matmul_rounded};
use crate::plan::Plan;
use crate::tensor::Tensor;

/// `scores [B, C]` = similarity of each of `anchors [B, dim]` to each of `candidates [C, dim]`: inner products, of rows that are of
/// unit length where the metric is cosine, and for L2 x . y - |y|^2 / 2, which ranks the candidates y of an anchor x as
/// -|x - y|^2 / 2 does. `product` makes the inner products.
pub fn similarities(plan: &mut Plan, metric: Metric, anchors: Tensor, candidates: Tensor, scores: Tensor, product: Product) {
    product(plan, Layout::NT, anchors, candidates, scores, Write::Set);
    if metric == Metric::L2 {
        let offset = plan.scratch("l2 offset", [1, candidates.rows()]);
        l2_offset(plan, candidates, offset);
        add_bias(plan, offset, scores);
    }
}

/// Derivatives by anchors `[B, dim]` and candidates `[C, dim]`, into tensors of these shapes, from `score_gradient [B, C]`, that by the scores of
/// [`similarities`].
pub fn similarities_backward(
    plan: &mut Plan,
    metric: Metric,
    [anchors, candidates]: [Tensor; 2],
    score_gradient: Tensor,
    [by_anchors, by_candidates]: [Tensor; 2],
) {
    matmul_rounded(plan, Layout::NN, score_gradient, candidates, by_anchors, Write::Set);
    matmul_rounded(plan, Layout::TN, score_gradient, anchors, by_candidates, Write::Set);
    if metric == Metric::L2 {
        let by_offset = plan.scratch("l2 offset gradient", [1, candidates.rows()]);
        column_sum(plan, score_gradient, by_offset, 1.0, Write::Set);
        l2_offset_backward(plan, candidates, by_offset, by_candidates);
    }
}
