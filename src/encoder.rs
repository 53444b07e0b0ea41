//! A map on a device, fed block by block.

use crate::backend::{Backend, Program};
use crate::error::Result;
use crate::memory::allocate;
use crate::model::{Compressor, Map};
use crate::network::Network;
use crate::ops::normalize::normalize;
use crate::plan::{Plan, Routine};
use crate::tensor::Tensor;

/// Rows to encode at a time with a map: 16 MiB of them, or of their hidden units where those are more.
pub fn block_rows(map: &Map) -> usize {
    ((4 << 20) / map.dim_in.max(map.hidden_width())).clamp(64, 65_536)
}

/// A map that is ready to encode on a backend.
pub struct Encoder {
    program: Box<dyn Program>,
    encode: Routine,
    network: Network,
    rows: Tensor,
    /// 1 / |row|, where the map takes rows of unit length.
    inverse_norm: Option<Tensor>,
    output: Tensor,
}

/// Encoded rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Encodings {
    /// `[n, dim_out]`, row-major.
    pub values: Vec<f32>,
    /// Indices of rows of zeros where the map takes rows of unit length: they have no direction, and are encoded as zeros.
    pub zero_rows: Vec<usize>,
}

impl Encoder {
    /// Uploads the map, to encode blocks of `block_rows` rows at a time; see [`block_rows`].
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device refuses.
    pub fn new(map: &Map, backend: &dyn Backend, block_rows: usize) -> Result<Self> {
        let (dim_in, dim_out) = (map.dim_in as u32, map.dim_out as u32);
        let block = block_rows as u32;
        let mut plan = Plan::new(backend.limits());
        let encode = plan.routine();
        let rows = plan.input("rows", [block, dim_in]);
        let output = plan.state("output", [block, dim_out]);
        let (x, inverse_norm) = if map.input_normalized {
            let (unit, inverse_norm) = (plan.scratch("unit rows", rows.shape), plan.state("1 / |row|", [block, 1]));
            normalize(&mut plan, rows, unit, inverse_norm);
            (unit, Some(inverse_norm))
        } else {
            (rows, None)
        };
        let network = Network::new(&mut plan, map);
        network.encode(&mut plan, x, output);
        let mut program = backend.compile(plan)?;
        network.write(&mut *program, map)?;
        Ok(Self { program, encode, network, rows, inverse_norm, output })
    }

    /// Replaces the map by one of the same shapes and metric.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails.
    ///
    /// # Panics
    /// If a shape differs.
    pub fn replace(&mut self, map: &Map) -> Result<()> {
        self.network.write(&mut *self.program, map)
    }

    /// Encodes `rows [n, dim_in]`.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) when the device fails or memory does not suffice.
    ///
    /// # Panics
    /// If the length of `rows` is no multiple of `dim_in`.
    pub fn encode(&mut self, rows: &[f32]) -> Result<Encodings> {
        let (dim_in, dim_out, block) = (self.rows.cols() as usize, self.output.cols() as usize, self.rows.rows() as usize);
        assert!(rows.len().is_multiple_of(dim_in), "encode: {} values are no rows of {dim_in}", rows.len());
        let mut encodings = Encodings { values: allocate(rows.len() / dim_in, dim_out)?, zero_rows: Vec::new() };
        for chunk in rows.chunks(block * dim_in) {
            let count = chunk.len() / dim_in;
            let first = encodings.values.len() / dim_out;
            self.program.write_rows(self.rows, 0, chunk.into())?;
            self.program.run(self.encode, 0..1)?;
            encodings.values.extend_from_slice(&self.program.read(self.output.first_rows(count as u32))?);
            let Some(inverse_norm) = self.inverse_norm else { continue };
            let inverse_norm = self.program.read(inverse_norm.first_rows(count as u32))?;
            for row in (0..count).filter(|row| inverse_norm[*row] == 0.0) {
                encodings.values[(first + row) * dim_out..][..dim_out].fill(0.0);
                encodings.zero_rows.push(first + row);
            }
        }
        Ok(encodings)
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
        let block = block_rows(self).min(rows.len() / self.dim_in).max(1);
        Ok(Encoder::new(self, backend, block)?.encode(rows)?.values)
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
