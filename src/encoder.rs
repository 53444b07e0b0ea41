//! A map on a device, fed piece by piece.

use std::ops::Range;

use crate::backend::{Backend, Program};
use crate::data::Block;
use crate::error::Result;
use crate::lanes::{Lane, in_order};
use crate::memory::allocate;
use crate::model::{Compressor, Map};
use crate::network::Network;
use crate::ops::normalize::normalize;
use crate::plan::{Plan, Routine};
use crate::simd::first_not_finite;
use crate::tensor::Tensor;

/// Rows of a piece also where those are too wide to stay in cache: to load them and to hand their encodings on takes a call each.
/// 4096 -> 64 dimensions took a quarter more time by 64 rows than by 256 (x86-64 with AVX-512, 2 MiB of second-level cache).
const LEAST_PIECE: usize = 256;

/// 1 / |row| of rows whose products with any weights that training makes are far from the ends of float32.
const ORDINARY: Range<f32> = 1e-10..1e10;

/// A map that is ready to encode on a backend: by several programs at once, each on a piece of the rows that stays in its cache.
pub struct Encoder {
    lanes: Vec<Lane<Box<dyn Program>>>,
    recorded: Recorded,
    network: Network,
}

/// What every program computes.
#[derive(Clone, Copy)]
struct Recorded {
    encode: Routine,
    /// The same where lengths of rows are not [`ORDINARY`], if that makes a difference.
    encode_extreme: Option<Routine>,
    /// As many as a piece has.
    rows: Tensor,
    /// 1 / |row|, where the map takes rows of unit length.
    inverse_norm: Option<Tensor>,
    output: Tensor,
    /// Whether numbers that are not finite show in the output.
    shows_not_finite: bool,
}

/// Encoded rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Encodings {
    /// `[n, dim_out]`, row-major.
    pub values: Vec<f32>,
    /// Indices of rows of zeros where the map takes rows of unit length: they have no direction, and are encoded as zeros.
    pub zero_rows: Vec<usize>,
    /// The first row whose encoding is not finite, though the row is: its numbers are too large for the map.
    pub infinite_row: Option<usize>,
}

/// Rows to encode, `[n, dim_in]`, row-major.
pub trait Rows: Send {
    /// Number of values.
    fn values(&self) -> usize;

    /// Fills `into`, which is as long.
    ///
    /// # Errors
    /// Those of reading them.
    fn read(&self, into: &mut [f32]) -> Result<()>;

    /// The rows where they lie in memory, if they do; whether they are finite [`check`](Self::check) tells.
    fn in_place(&self) -> Option<&[f32]>;

    /// Checks what [`in_place`](Self::in_place) lends, as [`read`](Self::read) does what it reads.
    ///
    /// # Errors
    /// Those of reading them.
    fn check(&self) -> Result<()>;
}

impl Rows for &[f32] {
    fn values(&self) -> usize {
        self.len()
    }

    fn read(&self, into: &mut [f32]) -> Result<()> {
        into.copy_from_slice(self);
        Ok(())
    }

    fn in_place(&self) -> Option<&[f32]> {
        Some(self)
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Rows for Block {
    fn values(&self) -> usize {
        self.rows() * self.dim()
    }

    fn read(&self, into: &mut [f32]) -> Result<()> {
        Self::read(self, into)
    }

    fn in_place(&self) -> Option<&[f32]> {
        Self::in_place(self)
    }

    fn check(&self) -> Result<()> {
        Self::check(self)
    }
}

impl Encoder {
    /// Uploads the map, to encode up to `rows` rows; more take no more memory.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device refuses.
    pub fn new(map: &Map, backend: &dyn Backend, rows: usize) -> Result<Self> {
        let feed = backend.feed();
        // Hidden units where those are more.
        let fitting = feed.piece_bytes / 4 / map.dim_in.max(map.hidden_width());
        let piece = (fitting / 64 * 64).clamp(LEAST_PIECE, 65_536).min(rows.max(1));
        let mut plan = Plan::new(backend.limits());
        let network = Network::encoding(&mut plan, map);
        let recorded = Recorded::new(&mut plan, &network, map, piece as u32, feed.shows_not_finite);
        let programs = feed.programs.clamp(1, rows.div_ceil(piece).max(1));
        let mut lanes = Vec::new();
        for _ in 0..programs {
            let program = backend.compile(plan.clone())?;
            lanes.push(if feed.narrow && programs > 1 { Lane::narrow(program)? } else { Lane::wide(program) });
        }
        let mut encoder = Self { lanes, recorded, network };
        encoder.replace(map)?;
        Ok(encoder)
    }

    /// Replaces the map by one of the same shapes and metric.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    ///
    /// # Panics
    /// If a shape differs.
    pub fn replace(&mut self, map: &Map) -> Result<()> {
        self.lanes.iter_mut().try_for_each(|lane| self.network.write(&mut *lane.state, map))
    }

    /// Most rows of a piece.
    pub fn piece_rows(&self) -> usize {
        self.recorded.rows.rows() as usize
    }

    /// Encodes the pieces that `take` hands out, of up to [`piece_rows`](Self::piece_rows) rows each, until it is `None`, and hands
    /// them with their encodings to `give`, in their order. `take`, the reading of pieces and `give` overlap with computing.
    ///
    /// # Errors
    /// The first, in order, of `take`, of reading, of `give`, and [`Error::Device`](crate::Error::Device) when the device fails or
    /// memory does not suffice.
    pub fn stream<R: Rows>(
        &mut self,
        take: impl FnMut() -> Result<Option<R>> + Send,
        mut give: impl FnMut(R, Encodings) -> Result<()>,
    ) -> Result<()> {
        let recorded = self.recorded;
        let encode = |program: &mut Box<dyn Program>, piece: R| {
            let encodings = recorded.run(&mut **program, &piece)?;
            Ok((piece, encodings))
        };
        in_order(&mut self.lanes, take, encode, |(piece, encodings)| give(piece, encodings))
    }

    /// Encodes `rows [n, dim_in]`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails or memory does not suffice.
    ///
    /// # Panics
    /// If the length of `rows` is no multiple of `dim_in`.
    pub fn encode(&mut self, rows: &[f32]) -> Result<Encodings> {
        let (dim_in, dim_out) = (self.recorded.rows.cols() as usize, self.recorded.output.cols() as usize);
        assert!(rows.len().is_multiple_of(dim_in), "encode: {} values are no rows of {dim_in}", rows.len());
        let mut all = Encodings { values: allocate(rows.len() / dim_in, dim_out)?, zero_rows: Vec::new(), infinite_row: None };
        let mut pieces = rows.chunks(self.piece_rows() * dim_in);
        self.stream(
            || Ok(pieces.next()),
            |_, encodings| {
                let first = all.values.len() / dim_out;
                all.zero_rows.extend(encodings.zero_rows.iter().map(|row| first + row));
                all.infinite_row = all.infinite_row.or(encodings.infinite_row.map(|row| first + row));
                all.values.extend(encodings.values);
                Ok(())
            },
        )?;
        Ok(all)
    }
}

impl Recorded {
    fn new(plan: &mut Plan, network: &Network, map: &Map, piece: u32, shows_not_finite: bool) -> Self {
        let rows = plan.input("rows", [piece, map.dim_in as u32]);
        let output = plan.state("output", [piece, map.dim_out as u32]);
        let inverse_norm = map.input_normalized.then(|| plan.state("1 / |row|", [piece, 1]));
        let encode = plan.routine();
        let mut encode_extreme = None;
        if let Some(inverse_norm) = inverse_norm {
            if map.hidden.is_none() {
                network.encode_directions(plan, rows, inverse_norm, output);
                encode_extreme = Some(plan.routine());
            }
            let unit = plan.scratch("unit rows", rows.shape);
            normalize(plan, rows, unit, inverse_norm);
            network.encode(plan, unit, output);
        } else {
            network.encode(plan, rows, output);
        }
        Self { encode, encode_extreme, rows, inverse_norm, output, shows_not_finite }
    }

    fn run(&self, program: &mut dyn Program, piece: &impl Rows) -> Result<Encodings> {
        let count = piece.values() / self.rows.cols() as usize;
        let lent = piece.in_place().filter(|rows| rows.len() == self.rows.shape.len());
        if lent.is_none() {
            program.fill_rows(self.rows, count, &mut |into| piece.read(into))?;
        } else if !self.shows_not_finite {
            piece.check()?;
        }
        let run = |program: &mut dyn Program, routine| match lent {
            Some(rows) => program.run_on(routine, self.rows, rows),
            None => program.run(routine, 0..1),
        };
        run(program, self.encode)?;
        let inverse_norm =
            self.inverse_norm.map(|inverse_norm| program.read(inverse_norm.first_rows(count as u32))).transpose()?;
        if let (Some(routine), Some(norms)) = (self.encode_extreme, &inverse_norm)
            && norms.iter().any(|norm| *norm != 0.0 && !ORDINARY.contains(norm))
        {
            run(program, routine)?;
        }
        let mut values = program.read(self.output.first_rows(count as u32))?;
        let dim_out = self.output.cols() as usize;
        let infinite_row = first_not_finite(&values).map(|at| at / dim_out);
        // A number that is not finite makes all coordinates of its row so: each adds a multiple of it to others.
        if lent.is_some() && self.shows_not_finite && infinite_row.is_some() {
            piece.check()?;
        }
        let zero_rows: Vec<usize> = inverse_norm.map_or(vec![], |norms| (0..count).filter(|row| norms[*row] == 0.0).collect());
        zero_rows.iter().for_each(|row| values[row * dim_out..][..dim_out].fill(0.0));
        Ok(Encodings { values, zero_rows, infinite_row })
    }
}

impl Map {
    /// Encodes `rows [n, dim_in]` (row-major, not normalised by the caller) to `[n, dim_out]`; rows of zeros give zeros where the map
    /// takes rows of unit length.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    ///
    /// # Panics
    /// If the length of `rows` is no multiple of `dim_in`.
    pub fn encode(&self, backend: &dyn Backend, rows: &[f32]) -> Result<Vec<f32>> {
        Ok(Encoder::new(self, backend, rows.len() / self.dim_in)?.encode(rows)?.values)
    }
}

impl Compressor {
    /// Compresses `rows [n, dim_in]` (row-major) to `[n, dim_out]`.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    ///
    /// # Panics
    /// If the length of `rows` is no multiple of `dim_in`.
    pub fn compress(&self, backend: &dyn Backend, rows: &[f32]) -> Result<Vec<f32>> {
        self.map.encode(backend, rows)
    }
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::backend::{AdapterChoice, Cpu, Gpu};
    use crate::error::Error;
    use crate::metric::Metric;

    #[test]
    fn encodings_do_not_depend_on_the_number_of_threads() {
        let (dim, count) = (2048, 700);
        let mut rows: Vec<f32> = (0..count * dim).map(|i| (i as f32 * 0.37).sin()).collect();
        rows[600 * dim..][..dim].fill(0.0);
        let map = Map::linear(dim, Metric::Dot, (0..3 * dim).map(|i| (i as f32 * 0.11).cos()).collect());
        let [one, three] = [1, 3].map(|threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
            pool.install(|| Encoder::new(&map, &Cpu::new(), count).and_then(|mut e| e.encode(&rows)).expect("memory suffices"))
        });
        assert!(one == three && one.values.len() == count * 3);
        assert_eq!(one.zero_rows, [600]);
        let alone = map.encode(&Cpu::new(), &rows[650 * dim..651 * dim]).expect("memory suffices");
        assert!(alone.iter().zip(&one.values[650 * 3..]).all(|(a, b)| (a - b).abs() < 1e-5), "{alone:?}");
    }

    /// Rows whose products by themselves would be infinite or vanish, in pieces that are lent and not, alone and among others.
    #[test]
    fn lengths_of_rows_make_no_difference() {
        let (dim, count) = (32, 700);
        let rows: Vec<f32> = (0..count * dim).map(|i| (i as f32 * 0.37).sin()).collect();
        let map = Map::linear(dim, Metric::Cosine, (0..8 * dim).map(|i| (i as f32 * 0.11).cos()).collect());
        for backend in backends() {
            let encode = |rows: &[f32]| {
                let mut encoder = Encoder::new(&map, &*backend, LEAST_PIECE).expect("memory suffices");
                let encoded = encoder.encode(rows).expect("memory suffices");
                assert_eq!(encoded.zero_rows, [0; 0]);
                encoded.values
            };
            let expected = encode(&rows);
            for scale in [2e-38, 1e-20, 1e12, 1e37, 3e38] {
                for every in [1, 300] {
                    let mut scaled = rows.clone();
                    scaled.chunks_mut(dim).step_by(every).flatten().for_each(|x| *x *= scale);
                    let close = encode(&scaled).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
                    assert!(close, "{}: {scale}, every {every}", backend.describe());
                }
            }
        }
    }

    /// The CPU, and a GPU if there is one.
    fn backends() -> Vec<Box<dyn Backend>> {
        let gpu = Gpu::new(AdapterChoice::Any).map(|gpu| Box::new(gpu) as Box<dyn Backend>);
        std::iter::once(Box::new(Cpu::new()) as Box<dyn Backend>).chain(gpu).collect()
    }

    /// Rows that lie in memory, of which one is not finite.
    struct NotFinite([f32; 12]);

    impl Rows for NotFinite {
        fn values(&self) -> usize {
            self.0.len()
        }

        fn read(&self, _: &mut [f32]) -> Result<()> {
            unreachable!("a whole piece is taken as it lies")
        }

        fn in_place(&self) -> Option<&[f32]> {
            Some(&self.0)
        }

        fn check(&self) -> Result<()> {
            Err(Error::data("not finite"))
        }
    }

    #[test]
    fn rows_that_are_lent_are_checked() {
        let map = Map::linear(4, Metric::Dot, vec![1.0; 8]);
        for backend in backends() {
            let mut encoder = Encoder::new(&map, &*backend, 3).expect("memory suffices");
            let mut rows = [1.0; 12];
            rows[5] = f32::NAN;
            let mut pieces = Some(NotFinite(rows)).into_iter();
            let failed = encoder.stream(|| Ok(pieces.next()), |_, _| Ok(())).expect_err("a row is not finite");
            assert_eq!(failed.to_string(), "not finite", "{}", backend.describe());
        }
    }
}
