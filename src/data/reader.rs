//! Streaming the rows of one or many files as blocks.

use std::ops::Range;
use std::sync::Arc;

use super::npy::{Stored, Window};
use super::parquet::{ColumnPath, RecordBatch};
use super::zeros;
use crate::{Error, Result};

/// Consecutive rows of the input. Those of a `.npy` file in C order are yet to be read, so that threads can share that work.
#[derive(Debug, Clone)]
pub struct Block {
    /// Number of the first row, counted over all files.
    pub first_row: usize,
    rows: usize,
    dim: usize,
    content: Content,
    /// All columns of these rows, where the reader carries them.
    pub(super) columns: Option<RecordBatch>,
}

#[derive(Debug, Clone)]
enum Content {
    Values(Vec<f32>),
    /// Rows from `first` on of a file, of which they are mapped where that can be.
    Stored {
        file: Arc<Stored>,
        window: Option<Arc<Window>>,
        first: usize,
    },
}

impl Block {
    /// A block of whole rows; the reader fills in `first_row`.
    pub(super) fn new(values: Vec<f32>, dim: usize) -> Self {
        Self { first_row: 0, rows: values.len() / dim, dim, content: Content::Values(values), columns: None }
    }

    /// A block of `rows` of `file`, which `window` holds.
    pub(super) fn stored(file: Arc<Stored>, window: Option<Arc<Window>>, rows: Range<usize>, dim: usize) -> Self {
        let content = Content::Stored { file, window, first: rows.start };
        Self { first_row: 0, rows: rows.len(), dim, content, columns: None }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of each row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Fills `values` with the rows: row-major, `rows() * dim` finite values.
    ///
    /// # Errors
    /// Those of [`Reader::next_block`], for what is read only now.
    ///
    /// # Panics
    /// If `values` has another length.
    pub fn read(&self, values: &mut [f32]) -> Result<()> {
        assert_eq!(values.len(), self.rows * self.dim, "read: {} rows of {} values", self.rows, self.dim);
        match &self.content {
            Content::Values(content) => values.copy_from_slice(content),
            Content::Stored { file, first, .. } => file.read(*first, values)?,
        }
        Ok(())
    }

    /// The rows where they lie in memory, if they do: row-major, `rows() * dim` values, which [`check`](Self::check) has yet to find
    /// finite.
    pub fn in_place(&self) -> Option<&[f32]> {
        match &self.content {
            Content::Values(values) => Some(values),
            Content::Stored { file, window, first } => file.load(window.as_ref()?, *first..*first + self.rows),
        }
    }

    /// Checks that what [`in_place`](Self::in_place) lends is finite.
    ///
    /// # Errors
    /// A data error that names the first value that is not; those of [`read`](Self::read) when the rows are there no more.
    pub fn check(&self) -> Result<()> {
        match (&self.content, self.in_place()) {
            (Content::Values(_), _) => Ok(()),
            (Content::Stored { file, first, .. }, Some(values)) => file.check(*first, values),
            (Content::Stored { file, first, .. }, None) => file.read(*first, &mut zeros(self.rows, self.dim)?),
        }
    }

    /// The rows, row-major: `rows() * dim` finite values.
    ///
    /// # Errors
    /// As [`read`](Self::read); a device error when memory does not suffice.
    pub fn into_values(self) -> Result<Vec<f32>> {
        if let Content::Values(values) = self.content {
            return Ok(values);
        }
        let mut values = zeros(self.rows, self.dim)?;
        self.read(&mut values)?;
        Ok(values)
    }
}

/// One file, positioned at its next unread row.
pub(super) trait Part: Send {
    /// The file, as messages name it.
    fn name(&self) -> &str;
    /// Rows in the whole file; at least 1.
    fn rows(&self) -> usize;
    /// Length of each row; at least 1.
    fn dim(&self) -> usize;
    /// What else to say about the file: the float type or the column.
    fn detail(&self) -> String;
    /// The embedding column, where the file is a table.
    fn column(&self) -> Option<&ColumnPath> {
        None
    }
    /// The next rows: at least one and at most `max_rows`, which is at least 1; called only while rows are left.
    fn read(&mut self, max_rows: usize) -> Result<Block>;
}

/// Streams rows in file order; never holds more than a block.
pub struct Reader {
    parts: Vec<Box<dyn Part>>,
    /// The part being read, and how many of its rows have been.
    current: usize,
    read_of_current: usize,
    rows: usize,
    next_row: usize,
    source: String,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({}, row {})", self.describe(), self.next_row)
    }
}

impl Reader {
    /// Opens files one after another until they hold `max_items` rows (0: all files).
    pub(super) fn new(files: impl Iterator<Item = Result<Box<dyn Part>>>, max_items: usize, source: String) -> Result<Self> {
        let mut parts: Vec<Box<dyn Part>> = Vec::new();
        let mut rows = 0_usize;
        for part in files {
            let part = part?;
            if let Some(first) = parts.first()
                && first.dim() != part.dim()
            {
                return Err(Error::data("the files disagree on the dimension")
                    .at(format!("{} has {}, {} has {}", first.name(), first.dim(), part.name(), part.dim()))
                    .hint("read files of one model at a time"));
            }
            rows = rows.saturating_add(part.rows());
            parts.push(part);
            if max_items > 0 && rows >= max_items {
                rows = max_items;
                break;
            }
        }
        if parts.is_empty() {
            return Err(Error::data("there are no files to read").at(source));
        }
        Ok(Self { parts, current: 0, read_of_current: 0, rows, next_row: 0, source })
    }

    /// Number of rows that the blocks will hold together, known from headers and footers.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of each row.
    pub fn dim(&self) -> usize {
        self.parts[0].dim()
    }

    /// Where the rows come from, for people: files or dataset and commit, shape, type or column.
    pub fn describe(&self) -> String {
        format!("{}: {} x {}, {}", self.source, self.rows, self.dim(), self.parts[0].detail())
    }

    /// The embedding column, where the input is parquet.
    pub(super) fn column(&self) -> Option<&ColumnPath> {
        self.parts[0].column()
    }

    /// The next rows: at least one and at most `max_rows`, from one file; `None` after the last.
    ///
    /// # Errors
    /// A data error that names file, row and column for a null, NaN, infinite or overflowing value, a row of another length,
    /// or damage; an input/output error when reading fails. Of a `.npy` file in C order [`Block::read`] finds them.
    ///
    /// # Panics
    /// If `max_rows` is 0.
    pub fn next_block(&mut self, max_rows: usize) -> Result<Option<Block>> {
        assert!(max_rows > 0, "next_block: max_rows is 0");
        if self.next_row == self.rows {
            return Ok(None);
        }
        if self.read_of_current == self.parts[self.current].rows() {
            self.current += 1;
            self.read_of_current = 0;
        }
        let part = &mut self.parts[self.current];
        let wanted = max_rows.min(part.rows() - self.read_of_current).min(self.rows - self.next_row);
        let block = Block { first_row: self.next_row, ..part.read(wanted)? };
        self.read_of_current += block.rows();
        self.next_row += block.rows();
        Ok(Some(block))
    }
}
