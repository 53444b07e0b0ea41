//! A handle to an array of a [`Plan`](crate::plan::Plan): shape and type, no storage.

use std::fmt;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit floating point (64-bit on the oracle).
    F32,
    /// 32-bit unsigned: row indices, columns, identifiers.
    U32,
}

/// Shape `[batch, rows, cols]`, row-major and contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Number of matrices; 1 for an ordinary matrix.
    pub batch: u32,
    /// Rows of each matrix.
    pub rows: u32,
    /// Columns of each matrix.
    pub cols: u32,
}

impl Shape {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.batch as usize * self.rows as usize * self.cols as usize
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl From<[u32; 2]> for Shape {
    fn from([rows, cols]: [u32; 2]) -> Self {
        Self { batch: 1, rows, cols }
    }
}

impl From<[u32; 3]> for Shape {
    fn from([batch, rows, cols]: [u32; 3]) -> Self {
        Self { batch, rows, cols }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.batch {
            1 => write!(f, "[{}, {}]", self.rows, self.cols),
            batch => write!(f, "[{batch}, {}, {}]", self.rows, self.cols),
        }
    }
}

/// A `Copy` handle: which array of the plan, which of its row windows, and the shape seen through the handle.
///
/// It owns nothing; a [`Program`](crate::backend::Program) holds the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tensor {
    pub(crate) id: u32,
    /// Index of the row window that this handle stands for; the whole tensor is window 0 while it has only one.
    pub(crate) window: u32,
    /// Shape seen through this handle.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// Name in messages, unique in spirit only.
    pub name: &'static str,
}

impl Tensor {
    /// Rows of each matrix.
    pub fn rows(self) -> u32 {
        self.shape.rows
    }

    /// Columns of each matrix.
    pub fn cols(self) -> u32 {
        self.shape.cols
    }

    /// The same array, seen only up to row `rows`.
    ///
    /// # Panics
    /// If the tensor has fewer rows or is batched.
    #[must_use]
    pub fn first_rows(self, rows: u32) -> Self {
        assert!(rows <= self.shape.rows && self.shape.batch == 1, "first_rows: {self} has no first {rows} rows");
        Self { shape: Shape { rows, ..self.shape }, ..self }
    }

    /// The same elements, seen in another shape.
    ///
    /// # Panics
    /// If the number of elements differs.
    #[must_use]
    pub fn reshaped(self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert!(shape.len() == self.shape.len(), "reshaped: {self} does not have the elements of {shape}");
        Self { shape, ..self }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.shape)
    }
}
