//! Which shader multiplies, by shape.

use std::fmt;

use crate::plan::MatrixUnits;

/// How a product is divided among workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    /// Rows and columns of C that a workgroup makes.
    pub(super) tile: [u32; 2],
    /// Parts of the contraction, whose products are stored and then added.
    pub(super) parts: u32,
    /// Contraction indices of each part but the last.
    pub(super) part_k: u32,
    /// What multiplies, where it is not the ordinary arithmetic.
    pub(super) units: Option<MatrixUnits>,
}

/// Tiles by decreasing work for what they load. All but the last take 256 threads.
const TILES: [[u32; 2]; 5] = [[128, 128], [128, 64], [64, 128], [64, 64], [32, 32]];

/// Threads of a workgroup that makes a tile.
fn threads(tile: [u32; 2]) -> u32 {
    if tile == [32, 32] { 64 } else { 256 }
}

/// Threads that occupy a large GPU: 128 workgroups of 256, one for about each of its processors (132 in an H100). Threads have up
/// to 64 independent sums each, so that few of them hide the latency of arithmetic.
const FILL: u32 = 128 * 256;

/// Contraction indices of a part at least: for each sum that is stored and read again (8 bytes, 80 to 160 flops of such a GPU) a part
/// does 512.
const PART: u32 = 256;

/// Parts at most, which bounds what the adding pass reads.
const MAX_PARTS: u32 = 16;

/// Elements of the products of parts at most, where variants are compared: 256 MiB.
const MAX_PRODUCTS: u64 = 1 << 26;

/// Contraction indices that every shader stages at once, or a multiple.
const DEPTH: u32 = 32;

impl Variant {
    /// The whole contraction in one part.
    pub(super) fn whole(tile: [u32; 2], k: u32) -> Self {
        Self { tile, parts: 1, part_k: k, units: None }
    }

    /// The contraction in at most so many parts.
    pub(super) fn split(tile: [u32; 2], k: u32, parts: u32) -> Self {
        let part_k = k.div_ceil(parts).next_multiple_of(DEPTH);
        Self { tile, parts: k.div_ceil(part_k), part_k, units: None }
    }

    /// Matrix units: four subgroups, each with two by two of their matrices.
    pub(super) fn units(units: MatrixUnits, k: u32) -> Self {
        Self { units: Some(units), ..Self::whole([4 * units.side; 2], k) }
    }

    /// The variant for a batch of `[m, k] x [k, n]`.
    ///
    /// 1. The largest tile of which there are enough to fill a large GPU; a side of 128 only where the product has more than 64.
    /// 2. Where none does and the contraction is long, as it is in gradients of weights and in maps of few rows: the largest tile
    ///    that fills it once the contraction is split, else the smallest, split as far as it goes.
    /// 3. Else 64 x 64 where that makes 64 workgroups, else 32 x 32.
    ///
    /// Reasoned from what occupies such a GPU and from its ratio of flops to bytes, not measured on one; `cargo bench --bench variants`
    /// times the others beside it.
    pub(super) fn choose([batch, m, n, k]: [u32; 4]) -> Self {
        let fitting = || TILES.into_iter().filter(|tile| fits(*tile, [m, n]));
        let count = |tile: [u32; 2]| u64::from(m.div_ceil(tile[0])) * u64::from(n.div_ceil(tile[1])) * u64::from(batch);
        let fills = |tile: [u32; 2], parts: u32| count(tile) * u64::from(threads(tile) * parts) >= u64::from(FILL);
        if let Some(tile) = fitting().find(|tile| fills(*tile, 1)) {
            return Self::whole(tile, k);
        }
        let parts = (k / PART).min(MAX_PARTS);
        if parts > 1 {
            let tile = fitting().find(|tile| fills(*tile, parts)).unwrap_or([32, 32]);
            let enough = u64::from(FILL).div_ceil(count(tile) * u64::from(threads(tile)));
            return Self::split(tile, k, parts.min(u32::try_from(enough).unwrap_or(MAX_PARTS)));
        }
        Self::whole(if count([64, 64]) < 64 { [32, 32] } else { [64, 64] }, k)
    }

    /// What [`choose`](Self::choose) takes, and then all others that it could, with parts by powers of two.
    pub(super) fn all(shape: [u32; 4]) -> Vec<Self> {
        let [batch, m, n, k] = shape;
        let products = |parts: u32| u64::from(batch * parts) * u64::from(m) * u64::from(n);
        let worth = |parts: &u32| *parts == 1 || k / parts >= PART / 2 && products(*parts) <= MAX_PRODUCTS;
        let chosen = Self::choose(shape);
        let splits = [1, 2, 4, 8, MAX_PARTS].into_iter().filter(worth);
        let all = splits.flat_map(|parts| TILES.into_iter().map(move |tile| Self::split(tile, k, parts)));
        let others = all.filter(|other| fits(other.tile, [m, n]) && *other != chosen);
        std::iter::once(chosen).chain(others).collect()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [rows, cols] = self.tile;
        write!(f, "{rows}x{cols} tiles")?;
        if self.parts > 1 { write!(f, " in {} parts", self.parts) } else { Ok(()) }
    }
}

/// Whether a product `[m, n]` is large enough for a tile: a side of 128 only where there are more than 64.
fn fits(tile: [u32; 2], [m, n]: [u32; 2]) -> bool {
    (tile[0] < 128 || m > 64) && (tile[1] < 128 || n > 64)
}

#[cfg(test)]
mod tests {
    use super::Variant;

    /// What training and search multiply, and what is chosen for it.
    #[test]
    fn shapes_get_the_variant_that_fills_a_gpu() {
        let shapes = [
            // Large products: the large tile.
            ([1, 4096, 4096, 4096], [128, 128], 1),
            ([1, 512, 4096, 384], [128, 128], 1),
            // Maps of many rows to 64 dimensions, and of few.
            ([1, 65_536, 64, 4096], [128, 64], 1),
            ([1, 512, 64, 4096], [64, 64], 16),
            // Gradients of weights, whose contraction runs over a batch.
            ([1, 64, 4096, 512], [64, 64], 2),
            ([1, 32, 384, 4096], [32, 32], 16),
            // Small products.
            ([1, 512, 520, 20], [64, 64], 1),
            ([1, 64, 64, 64], [32, 32], 1),
            ([64, 128, 128, 128], [128, 64], 1),
        ];
        for (shape, tile, parts) in shapes {
            let variant = Variant::choose(shape);
            assert_eq!((variant.tile, variant.parts), (tile, parts), "{shape:?}");
        }
    }

    /// Parts cover the contraction, and none is empty.
    #[test]
    fn parts_cover_the_contraction() {
        for k in [1, 31, 512, 1000, 4096, 100_003] {
            for parts in 1..=16 {
                let variant = Variant::split([64, 64], k, parts);
                assert!(variant.parts <= parts, "{variant:?}");
                assert!(variant.part_k * (variant.parts - 1) < k && k <= variant.part_k * variant.parts, "{variant:?} of {k}");
            }
        }
    }
}
