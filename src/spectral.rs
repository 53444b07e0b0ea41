//! Principal axes of a data set: the strongest maps that need no training, and where training starts.

use faer::{Mat, Side};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::backend::{Backend, Program};
use crate::error::{Error, Result};
use crate::memory::allocate;
use crate::op::Write;
use crate::ops::add_bias::add_bias;
use crate::ops::column_sum::column_sum;
use crate::ops::matmul::{Layout, matmul};
use crate::plan::{Plan, Routine};
use crate::random::normal;
use crate::tensor::Tensor;

/// Up to this width the whole spectrum is computed at once; above it, only its head, by subspace iteration.
const FULL_WIDTH: usize = 1024;
/// Iterations stop when the sum of the wanted energies grows by less than this fraction, or at the cap.
const CONVERGED: f64 = 1e-5;
const MAX_ITERATIONS: usize = 20;

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

/// Finds the spectra of one data set, which is kept on the device.
pub struct SpectralSolver {
    program: Box<dyn Program>,
    tensors: Tensors,
    rows: usize,
    dim: usize,
    /// Axes of the subspace that is iterated.
    width: usize,
    wanted: usize,
}

struct Tensors {
    basis: Tensor,
    shift: Tensor,
    energy: Tensor,
    image: Tensor,
    mean: Tensor,
    iterate: Routine,
}

impl SpectralSolver {
    /// Uploads `rows [n, dim]` to find up to `wanted` axes of it.
    ///
    /// # Errors
    /// [`Error::Device`] when the device refuses.
    pub fn new(backend: &dyn Backend, rows: &[f32], dim: usize, wanted: usize) -> Result<Self> {
        let n = rows.len() / dim;
        let wanted = wanted.min(dim);
        let width = if dim <= FULL_WIDTH { dim } else { (wanted + wanted.min(64) + 32).min(dim).min(n.max(wanted)) };
        let mut plan = Plan::new(backend.limits());
        let (n32, dim32, width32) = (n as u32, dim as u32, width as u32);
        let x = plan.input("rows", [n32, dim32]);
        let basis = plan.input("basis", [width32, dim32]);
        let shift = plan.input("shift", [1, width32]);
        let projected = plan.scratch("projected", [n32, width32]);
        let energy = plan.state("energy", [width32, width32]);
        let image = plan.state("image", [width32, dim32]);
        let mean = plan.state("mean", [1, dim32]);
        // P = (X - mean) Qᵀ; PᵀP for Rayleigh and Ritz; PᵀX is the next basis (the columns of P sum to 0 when centred, so the
        // mean drops out).
        let iterate = plan.routine();
        matmul(&mut plan, Layout::NT, x, basis, projected, Write::Set);
        add_bias(&mut plan, shift, projected);
        matmul(&mut plan, Layout::TN, projected, projected, energy, Write::Set);
        if width < dim {
            matmul(&mut plan, Layout::TN, projected, x, image, Write::Set);
        }
        let find_mean = plan.routine();
        column_sum(&mut plan, x, mean, 1.0 / n as f32, Write::Set);
        let mut program = backend.compile(plan)?;
        program.write(x, rows)?;
        program.run(find_mean, 0..1)?;
        let tensors = Tensors { basis, shift, energy, image, mean, iterate };
        Ok(Self { program, tensors, rows: n, dim, width, wanted })
    }

    /// The leading axes: exact up to a width of 1,024, else by randomised subspace iteration with Rayleigh-Ritz (Halko, Martinsson
    /// and Tropp 2011, arXiv 0909.4061).
    ///
    /// # Errors
    /// [`Error::Device`] when the device fails; [`Error::Data`] when the rows have no spectrum (not finite).
    pub fn solve(&mut self, centring: Centring) -> Result<Spectrum> {
        let mean = self.program.read(self.tensors.mean)?;
        let origin = match centring {
            Centring::Uncentred => vec![0.0; self.dim],
            Centring::Centred => mean.clone(),
        };
        let mut basis = self.first_basis();
        let mut energy = 0.0;
        for iteration in 0.. {
            let (energies, rotation) = self.project(&basis, &origin)?;
            let head: f64 = energies[..self.wanted].iter().sum();
            if self.width == self.dim || head - energy <= CONVERGED * head || iteration == MAX_ITERATIONS {
                return Ok(self.spectrum(&basis, &energies, &rotation, mean));
            }
            energy = head;
            let image = self.program.read(self.tensors.image)?;
            basis = orthonormal_rows(&image, self.width, self.dim);
        }
        unreachable!("the iteration is capped")
    }

    /// The identity when the whole spectrum is wanted, else random directions.
    fn first_basis(&self) -> Vec<f32> {
        if self.width == self.dim {
            return (0..self.dim * self.dim).map(|i| if i / self.dim == i % self.dim { 1.0 } else { 0.0 }).collect();
        }
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let random: Vec<f32> = (0..self.width * self.dim).map(|_| normal(&mut rng)).collect();
        orthonormal_rows(&random, self.width, self.dim)
    }

    /// Energies (descending) and the rotation `[width, width]` of the basis onto its principal axes (columns).
    fn project(&mut self, basis: &[f32], origin: &[f32]) -> Result<(Vec<f64>, Mat<f64>)> {
        let shift: Vec<f32> = basis.chunks(self.dim).map(|axis| -dot(axis, origin)).collect();
        self.program.write(self.tensors.basis, basis)?;
        self.program.write(self.tensors.shift, &shift[..])?;
        self.program.run(self.tensors.iterate, 0..1)?;
        let energy = self.program.read(self.tensors.energy)?;
        let width = self.width;
        let eigen = symmetric(&energy, width, self.rows).self_adjoint_eigen(Side::Lower).map_err(|_| no_spectrum())?;
        let values = eigen.S().column_vector();
        let energies = (0..width).rev().map(|i| values[i].max(0.0)).collect();
        let vectors = eigen.U();
        Ok((energies, Mat::from_fn(width, width, |i, j| vectors[(i, width - 1 - j)])))
    }

    fn spectrum(&self, basis: &[f32], energies: &[f64], rotation: &Mat<f64>, mean: Vec<f32>) -> Spectrum {
        let mut axes = vec![0.0f32; self.wanted * self.dim];
        for (j, axis) in axes.chunks_mut(self.dim).enumerate() {
            let mut sum = vec![0.0f64; self.dim];
            for (i, old) in basis.chunks(self.dim).enumerate() {
                let weight = rotation[(i, j)];
                sum.iter_mut().zip(old).for_each(|(s, x)| *s += weight * f64::from(*x));
            }
            // Signs are arbitrary: the largest component is made positive, so that every backend gives the same axes.
            let largest = sum.iter().fold(0.0f64, |a, b| if b.abs() > a.abs() { *b } else { a });
            axis.iter_mut().zip(sum).for_each(|(a, s)| *a = (s * largest.signum()) as f32);
        }
        Spectrum { axes, energies: energies[..self.wanted].to_vec(), mean, dim: self.dim }
    }
}

/// All energies of `rows [n, dim]` about their mean that are not zero by construction, min(n - 1, dim) of them, descending: the
/// eigenvalues of the smaller of XᵀX and XXᵀ, which is made on the backend and decomposed in f64.
///
/// # Errors
/// [`Error::Device`] when the device fails or memory does not suffice; [`Error::Data`] when the rows have no spectrum (not finite).
pub fn energies(backend: &dyn Backend, rows: &[f32], dim: usize) -> Result<Vec<f64>> {
    let n = rows.len() / dim;
    let mut mean = vec![0.0f64; dim];
    rows.chunks(dim).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, x)| *m += f64::from(*x) / n as f64));
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
    let mut energies = matrix.self_adjoint_eigenvalues(Side::Lower).map_err(|_| no_spectrum())?;
    energies.reverse();
    energies.truncate((n - 1).min(dim));
    Ok(energies.into_iter().map(|e| e.max(0.0)).collect())
}

/// `matrix [side, side]` / n, without what rounding left of asymmetry.
fn symmetric(matrix: &[f32], side: usize, n: usize) -> Mat<f64> {
    Mat::from_fn(side, side, |i, j| f64::from(matrix[i * side + j] + matrix[j * side + i]) / (2.0 * n as f64))
}

fn no_spectrum() -> Error {
    Error::data("the spectrum of the data could not be computed").hint("check the data for extreme values")
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// Orthonormal rows spanning the rows of `matrix [count, dim]`, by Householder QR of its transpose.
fn orthonormal_rows(matrix: &[f32], count: usize, dim: usize) -> Vec<f32> {
    let columns = Mat::from_fn(dim, count, |i, j| f64::from(matrix[j * dim + i]));
    let q = columns.qr().compute_thin_Q();
    (0..count * dim).map(|i| q[(i % dim, i / dim)] as f32).collect()
}
