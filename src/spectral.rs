//! Principal axes of a data set: the strongest maps that need no training, and where training starts.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{Mat, MatMut, Par, get_global_parallelism};
use pulp::{Arch, Simd, WithSimd};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::backend::{Backend, Program};
use crate::error::{Error, Result};
use crate::memory::allocate;
use crate::moments::mean;
use crate::op::Write;
use crate::ops::first_columns::first_columns;
use crate::ops::matmul::{Layout, matmul};
use crate::plan::{Plan, Routine};
use crate::random::normal;
use crate::tensor::Tensor;

/// Up to this width the whole spectrum is computed at once; above it, only its head, by subspace iteration.
const FULL_WIDTH: usize = 1024;
/// Iterations stop when the sum of the energies that shall be accurate grows by less than this fraction, or at the cap. What it may
/// still grow is about a third of that: of Debian's 4,000 training rows x 4096, 128 axes, 4e-5 in the fifth iteration and 6e-6 in the
/// sixth, and with 512 axes, of which 64 shall be accurate, 2e-7 in the third.
const CONVERGED: f64 = 1e-4;
const MAX_ITERATIONS: usize = 20;
/// Data up to this size stays on the device between iterations; larger data comes anew for each, in blocks of a quarter of it.
const RESIDENT_BYTES: usize = 256 << 20;

/// Whether the mean row is subtracted before axes are sought. Axes are applied to rows as they are in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Centring {
    /// Eigenvectors of XᵀX: uncentred singular vectors.
    Uncentred,
    /// Eigenvectors of the covariance: principal components.
    Centred,
}

/// The leading axes of a data set.
#[derive(Clone, Debug)]
pub struct Spectrum {
    /// Orthonormal axes `[count, dim]`, row-major, strongest first.
    pub axes: Vec<f32>,
    /// Mean squared projection on each axis, descending.
    pub energies: Vec<f64>,
    /// Mean of the rows.
    pub mean: Vec<f32>,
    /// Width of the data.
    pub dim: usize,
}

impl Spectrum {
    /// The map `[dim_out, dim]` onto the first axes, tempered by [`scales`](Self::scales).
    pub fn map(&self, dim_out: usize, gamma: f64) -> Vec<f32> {
        let axes = self.axes.chunks(self.dim).zip(self.scales(dim_out, gamma));
        axes.flat_map(|(axis, scale)| axis.iter().map(move |x| x * scale)).collect()
    }

    /// Factors of the first axes, energy^(-gamma / 2): 1 for gamma = 0, whitening for gamma = 1 (SpecTemp, arXiv 2603.19339).
    pub fn scales(&self, dim_out: usize, gamma: f64) -> Vec<f32> {
        let floor = self.energies[0] * 1e-12;
        self.energies.iter().take(dim_out).map(|energy| energy.max(floor).powf(-gamma / 2.0) as f32).collect()
    }
}

/// A subspace that holds the leading axes of one data set, about its mean and about the origin alike: energies about the origin
/// are those about the mean and the mean's own, and the mean lies in the subspace.
pub struct SpectralSolver {
    program: Box<dyn Program>,
    tensors: Tensors,
    dim: usize,
    wanted: usize,
    mean: Vec<f32>,
    /// Orthonormal basis `[width, dim]`; None where it is the identity.
    basis: Option<Vec<f32>>,
    /// Energies about the mean in that basis `[width, width]`.
    energy: Mat<f64>,
}

struct Tensors {
    /// A block, without its mean.
    rows: Tensor,
    basis: Tensor,
    energy: Tensor,
    image: Tensor,
    rotation: Tensor,
    axes: Tensor,
    /// Energies and image of the basis, from the first block and from others.
    project: [Routine; 2],
    /// The axes, from the basis.
    rotate: Routine,
}

impl Tensors {
    /// For rows in blocks of `[block, dim]`.
    fn record(plan: &mut Plan, [block, dim]: [u32; 2], width: u32, wanted: u32) -> Self {
        // The identity is not stored.
        let whole = width == dim;
        let basis_shape = if whole { [1, 1] } else { [width, dim] };
        let rows = plan.input("rows", [block, dim]);
        let [energy, image] = [plan.state("energy", [width, width]), plan.state("image", basis_shape)];
        let basis = plan.input("basis", basis_shape);
        let [rotation, axes] = [plan.input("rotation", [wanted, width]), plan.state("axes", [wanted, dim])];
        let projected = if whole { rows } else { plan.scratch("projected", [block, width]) };
        let products = plan.scratch("products", [width, width]);
        let project = [Write::Set, Write::Add].map(|write| {
            let routine = plan.routine();
            if !whole {
                matmul(plan, Layout::NT, rows, basis, projected, Write::Set);
                matmul(plan, Layout::TN, projected, rows, image, write);
            }
            // A product by itself costs half of one that is added to something.
            matmul(plan, Layout::TN, projected, projected, products, Write::Set);
            first_columns(plan, products, energy, write);
            routine
        });
        let rotate = plan.routine();
        if !whole {
            matmul(plan, Layout::NN, rotation, basis, axes, Write::Set);
        }
        Self { rows, basis, energy, image, rotation, axes, project, rotate }
    }
}

impl SpectralSolver {
    /// Finds the subspace of up to `wanted` axes of `rows [n, dim]`, of which the first `accurate` shall be: exactly up to a width of
    /// 1,024, else by randomised subspace iteration with Rayleigh-Ritz (Halko, Martinsson and Tropp 2011, arXiv 0909.4061).
    ///
    /// # Errors
    /// [`Error::Device`] when the device refuses or fails; [`Error::Data`] when the rows have no spectrum (not finite).
    pub fn new(backend: &dyn Backend, rows: &[f32], dim: usize, wanted: usize, accurate: usize) -> Result<Self> {
        let n = rows.len() / dim;
        let wanted = wanted.min(dim);
        let sought = wanted + wanted.min(64) + 32;
        // And the mean.
        let width = if dim <= FULL_WIDTH { dim } else { (sought.min(n.max(wanted)) + 1).min(dim) };
        // Rows that are needed once are better left in the cache that they were centred in.
        let once = width == dim;
        let resident = !once && size_of_val(rows) <= RESIDENT_BYTES;
        let bytes = if once { backend.feed().piece_bytes } else { RESIDENT_BYTES / 4 };
        let block = if resident { n } else { (bytes / (4 * dim)).clamp(1, n) };
        let mut plan = Plan::new(backend.limits());
        let tensors = Tensors::record(&mut plan, [block, dim].map(|x| x as u32), width as u32, wanted as u32);
        let program = backend.compile(plan)?;
        let energy = Mat::zeros(width, width);
        let mean = mean(rows, dim).into_iter().map(|m| m as f32).collect();
        let mut this = Self { program, tensors, dim, wanted, mean, basis: None, energy };
        if resident {
            this.load(rows)?;
        }
        if once {
            this.project(rows, resident)?;
        } else {
            this.iterate(rows, resident, width, accurate.min(wanted))?;
        }
        Ok(this)
    }

    /// Writes a block of rows without their mean, filled up with zeros.
    fn load(&mut self, block: &[f32]) -> Result<()> {
        let Self { program, tensors, dim, mean, .. } = self;
        let rows = tensors.rows.rows() as usize;
        program.fill_rows(tensors.rows, rows, &mut |centred| {
            let (centred, missing) = centred.split_at_mut(block.len());
            missing.fill(0.0);
            let pieces = centred.par_chunks_mut(CENTRED_ROWS * *dim).zip(block.par_chunks(CENTRED_ROWS * *dim));
            pieces.for_each(|(centred, rows)| Arch::new().dispatch(Centre { rows, mean, centred }));
            Ok(())
        })
    }

    /// Finds the energies in the basis, and its image.
    fn project(&mut self, rows: &[f32], resident: bool) -> Result<()> {
        for (i, block) in rows.chunks(self.tensors.rows.shape.len()).enumerate() {
            if !resident {
                self.load(block)?;
            }
            self.program.run(self.tensors.project[i.min(1)], 0..1)?;
        }
        let (width, n) = (self.energy.nrows(), rows.len() / self.dim);
        self.energy = symmetric(&self.program.read(self.tensors.energy)?, width, n);
        Ok(())
    }

    /// Turns a random basis towards the leading axes until the sum of the first `accurate` energies has converged. Its last row is
    /// what the others leave of the mean.
    fn iterate(&mut self, rows: &[f32], resident: bool, width: usize, accurate: usize) -> Result<()> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut image: Vec<f32> = (0..width * self.dim).map(|_| normal(&mut rng)).collect();
        let mut last = 0.0;
        for _ in 0..=MAX_ITERATIONS {
            image[(width - 1) * self.dim..].copy_from_slice(&self.mean);
            let basis = orthonormal_rows(&image, width, self.dim);
            self.program.write(self.tensors.basis, &basis[..])?;
            self.basis = Some(basis);
            self.project(rows, resident)?;
            let head: f64 = decompose(&self.energy, None)?.iter().rev().take(accurate).sum();
            if head - last <= CONVERGED * head {
                break;
            }
            last = head;
            image = self.program.read(self.tensors.image)?;
        }
        Ok(())
    }

    /// The leading axes.
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails; [`Error::Data`] when the rows have no spectrum (not finite).
    pub fn solve(&mut self, centring: Centring) -> Result<Spectrum> {
        let width = self.energy.nrows();
        let energy = match centring {
            Centring::Centred => self.energy.clone(),
            Centring::Uncentred => {
                let mean = self.mean_in_basis();
                Mat::from_fn(width, width, |i, j| self.energy[(i, j)] + mean[i] * mean[j])
            }
        };
        let mut vectors = Mat::zeros(width, width);
        let values = decompose(&energy, Some(vectors.as_mut()))?;
        let energies = (0..self.wanted).map(|i| values[width - 1 - i].max(0.0)).collect();
        let rotation: Vec<f32> =
            (0..self.wanted * width).map(|at| vectors[(at % width, width - 1 - at / width)] as f32).collect();
        let mut axes = self.rotate(rotation)?;
        for axis in axes.chunks_mut(self.dim) {
            // Signs are arbitrary: the largest component is made positive, so that every backend gives the same axes.
            let largest = axis.iter().fold(0.0f32, |a, b| if b.abs() > a.abs() { *b } else { a });
            axis.iter_mut().for_each(|x| *x *= largest.signum());
        }
        Ok(Spectrum { axes, energies, mean: self.mean.clone(), dim: self.dim })
    }

    fn mean_in_basis(&self) -> Vec<f64> {
        let double = |row: &[f32]| row.iter().zip(&self.mean).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        match &self.basis {
            None => self.mean.iter().map(|m| f64::from(*m)).collect(),
            Some(basis) => basis.chunks(self.dim).map(double).collect(),
        }
    }

    /// Rows of the data's width, from rows in the basis.
    fn rotate(&mut self, rotation: Vec<f32>) -> Result<Vec<f32>> {
        if self.basis.is_none() {
            return Ok(rotation);
        }
        self.program.write(self.tensors.rotation, &rotation[..])?;
        self.program.run(self.tensors.rotate, 0..1)?;
        self.program.read(self.tensors.axes)
    }
}

/// Rows that a thread centres at a time.
const CENTRED_ROWS: usize = 64;

/// `centred [n, dim]` = `rows` less their `mean`; a type, which is inlined where it is compiled for wide vectors.
struct Centre<'a> {
    rows: &'a [f32],
    mean: &'a [f32],
    centred: &'a mut [f32],
}

impl WithSimd for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dim = self.mean.len();
        for (centred, row) in self.centred.chunks_exact_mut(dim).zip(self.rows.chunks_exact(dim)) {
            centred.iter_mut().zip(row.iter().zip(self.mean)).for_each(|(c, (x, m))| *c = x - m);
        }
    }
}

/// All energies of `rows [n, dim]` about their mean that are not zero by construction, min(n - 1, dim) of them, descending: the
/// eigenvalues of the smaller of XᵀX and XXᵀ, which is made on the backend and decomposed in f64.
///
/// # Errors
/// [`Error::Device`] when the device fails or memory does not suffice; [`Error::Data`] when the rows have no spectrum (not finite).
pub fn energies(backend: &dyn Backend, rows: &[f32], dim: usize) -> Result<Vec<f64>> {
    let n = rows.len() / dim;
    let mean = mean(rows, dim);
    let (side, depth) = if n < dim { (n, dim) } else { (dim, n) };
    let mut centred = allocate(side, depth)?;
    centred.resize(side * depth, 0.0);
    for (i, row) in rows.chunks(dim).enumerate() {
        for (j, (x, m)) in row.iter().zip(&mean).enumerate() {
            centred[if n < dim { i * dim + j } else { j * n + i }] = (f64::from(*x) - m) as f32;
        }
    }
    let mut plan = Plan::new(backend.limits());
    let multiply = plan.routine();
    let x = plan.input("centred rows", [side as u32, depth as u32]);
    let gram = plan.state("gram", [side as u32, side as u32]);
    matmul(&mut plan, Layout::NT, x, x, gram, Write::Set);
    let mut program = backend.compile(plan)?;
    program.write(x, &centred[..])?;
    program.run(multiply, 0..1)?;
    let gram = program.read(gram)?;
    let matrix = symmetric(&gram, side, n);
    let mut energies = decompose(&matrix, None)?;
    energies.reverse();
    energies.truncate((n - 1).min(dim));
    Ok(energies.into_iter().map(|e| e.max(0.0)).collect())
}

/// `matrix [side, side]` / n, without what rounding left of asymmetry.
fn symmetric(matrix: &[f32], side: usize, n: usize) -> Mat<f64> {
    Mat::from_fn(side, side, |i, j| f64::from(matrix[i * side + j] + matrix[j * side + i]) / (2.0 * n as f64))
}

/// Eigenvalues of a symmetric matrix, ascending, and where there is room for them its eigenvectors, as columns.
fn decompose(matrix: &Mat<f64>, vectors: Option<MatMut<'_, f64>>) -> Result<Vec<f64>> {
    /// Up to this width threads wait for each other as long as they work, on two cores: a matrix of 384 took 12 to 13 ms on one thread and 11
    /// to 13 on two, of 512 26 to 30 and 27 to 33; and after a rest, when the other has to wake, of 384 14 to 26 and 19 to 51.
    const ONE_THREAD: usize = 512;
    let n = matrix.nrows();
    let par = if n <= ONE_THREAD { Par::Seq } else { get_global_parallelism() };
    let mut values = Diag::zeros(n);
    let wanted = if vectors.is_some() { ComputeEigenvectors::Yes } else { ComputeEigenvectors::No };
    let mut scratch = MemBuffer::new(self_adjoint_evd_scratch::<f64>(n, wanted, par, Default::default()));
    let scratch = MemStack::new(&mut scratch);
    self_adjoint_evd(matrix.as_ref(), values.as_mut(), vectors, par, scratch, Default::default()).map_err(|_| no_spectrum())?;
    Ok(values.column_vector().iter().copied().collect())
}

fn no_spectrum() -> Error {
    Error::data("the spectrum of the data could not be computed").hint("check the data for extreme values")
}

/// Orthonormal rows spanning the rows of `matrix [count, dim]`, by Householder QR of its transpose.
fn orthonormal_rows(matrix: &[f32], count: usize, dim: usize) -> Vec<f32> {
    let columns = Mat::from_fn(dim, count, |i, j| f64::from(matrix[j * dim + i]));
    let q = columns.qr().compute_thin_Q();
    (0..count * dim).map(|i| q[(i % dim, i / dim)] as f32).collect()
}
