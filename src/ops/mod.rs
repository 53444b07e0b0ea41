//! The table of ops. Adding one takes its file, its shader and its line here.

use crate::op::{Erased, ErasedOp};
use crate::tensor::Tensor;

mod norm;
mod rows;

use norm::{inverse_norm_exactly, inverse_norm_of, lengths};
use rows::Rows;
pub use rows::columns;

/// Declares the modules and lists the ops that tests and benches walk.
macro_rules! ops {
    ($($module:ident: $($op:ident),+;)*) => {
        $(pub mod $module;)*

        /// Every op of the crate.
        pub static TABLE: &[&dyn ErasedOp] = &[$($(&Erased::<$module::$op>::NEW),+),*];
    };
}

ops! {
    matmul: Matmul, MatmulRounded, MatmulCoarse;
    normalize: Normalize;
    normalize_backward: NormalizeBackward;
    inverse_norm: InverseNorm;
    scale_rows: ScaleRows;
    l2_offset: L2Offset;
    l2_offset_backward: L2OffsetBackward;
    gather: Gather;
    blend: Blend;
    first_columns: FirstColumns;
    gather_sum: GatherSum;
    add_bias: AddBias;
    column_sum: ColumnSum;
    adamw: AdamW;
    gelu: Gelu;
    multiply: Multiply;
    listwise_kl: ListwiseKl;
    hard_negative: HardNegative;
    lp_loss: LpLoss;
    top_k: TopK;
    nearest: Nearest;
    copy: CopyElements;
    fma: Fma;
}

/// What a loss over candidate lists writes, for B anchors with C candidates each.
#[derive(Clone, Copy, Debug)]
pub struct ListLoss {
    /// Derivative of a row's loss by the student's scores, `[B, C]`.
    pub gradient: Tensor,
    /// Loss of each row, `[B, 1]`.
    pub loss: Tensor,
    /// Derivative of each row's loss by the log inverse temperature, `[B, 1]`.
    pub temperature_gradient: Tensor,
}

impl ListLoss {
    /// The tensors, checked against the scores they belong to, in binding order.
    fn tensors(self, op: &str, teacher: Tensor, student: Tensor, log_inverse_temperature: Tensor) -> [Tensor; 3] {
        let Self { gradient, loss, temperature_gradient } = self;
        assert!(teacher.shape == student.shape, "{op}: shapes differ: {teacher} and {student}");
        assert!(gradient.shape == student.shape, "{op}: shapes differ: {student} and {gradient}");
        assert!(log_inverse_temperature.shape.len() == 1, "{op}: {log_inverse_temperature} is not one number");
        for per_row in [loss, temperature_gradient] {
            assert!(per_row.shape == [student.rows(), 1].into(), "{op}: {per_row} is not one number for each row of {student}");
        }
        [gradient, loss, temperature_gradient]
    }
}

/// Elements between the rows of consecutive steps of an index table `[steps, count]`: 0 where one row serves every step.
///
/// # Panics
/// If the table has not `count` columns.
fn table_step(op: &str, table: Tensor, count: u32) -> u32 {
    assert!(table.cols() == count && table.shape.batch == 1, "{op}: {table} has not {count} columns");
    if table.rows() == 1 { 0 } else { count }
}

/// The row of an index table at a step, by what [`table_step`] returned.
fn table_row(table: &[u32], table_step: u32, step: u32, count: u32) -> &[u32] {
    &table[step as usize * table_step as usize..][..count as usize]
}
