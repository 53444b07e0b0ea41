//! The model file: an `.npz` that numpy reads with `allow_pickle=False`.
//!
//! `weight` (d', D) and `bias` (d') are float32, and so are `hidden_weight` (h, D), `hidden_bias` (h) and `hidden_output` (d', h) where
//! there is a hidden layer; `meta` is the UTF-8 bytes of a JSON object as uint8.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::Path;

use npyz::{NpyFile, WriterBuilder};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::config::MAX_K;
use crate::data::AtomicFile;
use crate::error::{Error, Result};
use crate::model::{Compressor, Hidden, Map, Meta, SCHEMA_VERSION};

/// Deflate cannot expand more than 1,032-fold: an entry that claims more is damaged or hostile.
const MAX_EXPANSION: u64 = 1040;

impl Compressor {
    /// Writes the model through a file from [`AtomicFile::create`], which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] when writing fails; the target is then as it was.
    pub fn save(&self, mut target: AtomicFile) -> Result<()> {
        let failed = |e: std::io::Error| Error::io(format!("cannot write the model ({e})"));
        // In memory, where an archive can be completed whatever happens to the file.
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let (dim_in, dim_out) = (self.meta.dim_in as u64, self.meta.dim_out as u64);
        let meta = serde_json::to_vec(&self.meta).map_err(|e| failed(e.into()))?;
        add(&mut zip, "weight", &[dim_out, dim_in], &self.map.weight).map_err(failed)?;
        add(&mut zip, "bias", &[dim_out], &self.map.bias).map_err(failed)?;
        if let Some(hidden) = &self.map.hidden {
            let width = hidden.width() as u64;
            add(&mut zip, "hidden_weight", &[width, dim_in], &hidden.weight).map_err(failed)?;
            add(&mut zip, "hidden_bias", &[width], &hidden.bias).map_err(failed)?;
            add(&mut zip, "hidden_output", &[dim_out, width], &hidden.output).map_err(failed)?;
        }
        add(&mut zip, "meta", &[meta.len() as u64], &meta).map_err(failed)?;
        let archive = zip.finish().map_err(|e| failed(e.into()))?.into_inner();
        target.write_all(&archive)?;
        target.commit()
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::Data`] when it is no model, damaged, inconsistent or from a newer version.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::file("read the model", path, &e))?;
        let place = path.display();
        let hint = "a model is written by the train command";
        let mut zip = ZipArchive::new(BufReader::new(file))
            .map_err(|e| Error::data(format!("not a model file ({e})")).at(&place).hint(hint))?;
        let meta: Array<u8> = array(&mut zip, "meta").map_err(|e| e.at(&place).hint(hint))?;
        let meta = parse_meta(&meta.values).map_err(|e| e.at(&place))?;
        let map = read_map(&mut zip, &meta).map_err(|e| e.at(&place).hint("the file is damaged: train the model again"))?;
        Ok(Self { map, meta })
    }
}

fn read_map(zip: &mut ZipArchive<BufReader<File>>, meta: &Meta) -> Result<Map> {
    let (dim_in, dim_out, width) = (meta.dim_in as u64, meta.dim_out as u64, meta.hidden as u64);
    if dim_in == 0 || dim_out == 0 {
        return Err(Error::data("the model maps to or from no dimensions"));
    }
    let hidden = match meta.hidden {
        0 if zip.index_for_name("hidden_weight.npy").is_some() => {
            return Err(Error::data("the model contradicts itself: it has hidden weights, its meta block knows of none"));
        }
        0 => None,
        _ => Some(Hidden {
            weight: floats(zip, "hidden_weight", &[width, dim_in])?,
            bias: floats(zip, "hidden_bias", &[width])?,
            output: floats(zip, "hidden_output", &[dim_out, width])?,
        }),
    };
    let (weight, bias) = (floats(zip, "weight", &[dim_out, dim_in])?, floats(zip, "bias", &[dim_out])?);
    let (metric, input_normalized) = (meta.student_metric, meta.input_normalized);
    Ok(Map { dim_in: meta.dim_in, dim_out: meta.dim_out, metric, input_normalized, weight, bias, hidden })
}

/// An array of the shape that the meta block says, with values that training can leave behind.
fn floats(zip: &mut ZipArchive<BufReader<File>>, name: &str, shape: &[u64]) -> Result<Vec<f32>> {
    let array: Array<f32> = array(zip, name)?;
    if array.shape != shape {
        return Err(Error::data(format!(
            "the model contradicts itself: {name} has shape {:?}, its meta block says {shape:?}",
            array.shape
        )));
    }
    if array.values.iter().any(|x| !x.is_finite()) {
        return Err(Error::data(format!("the model holds values that are not finite, in {name}")));
    }
    Ok(array.values)
}

fn add<T: npyz::Serialize + npyz::AutoSerialize + Copy>(
    zip: &mut ZipWriter<impl Write + std::io::Seek>,
    name: &str,
    shape: &[u64],
    values: &[T],
) -> std::io::Result<()> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(values.len() > 1 << 29);
    zip.start_file(format!("{name}.npy"), options)?;
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(zip).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}

struct Array<T> {
    shape: Vec<u64>,
    values: Vec<T>,
}

/// Reads an array; nothing is allocated that the file does not hold.
fn array<T: npyz::Deserialize>(zip: &mut ZipArchive<BufReader<File>>, name: &str) -> Result<Array<T>> {
    let damaged = |e: &dyn std::fmt::Display| Error::data(format!("array {name:?} cannot be read ({e})"));
    let mut entry =
        zip.by_name(&format!("{name}.npy")).map_err(|e| Error::data(format!("no array {name:?} in the model ({e})")))?;
    let size = entry.size();
    if size / MAX_EXPANSION > entry.compressed_size() {
        return Err(damaged(&"the archive claims an impossible size"));
    }
    let mut bytes = Vec::new();
    // One byte further than the array goes: the checksum is compared at the end of the entry.
    (&mut entry).take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
    let npy = NpyFile::new(&bytes[..]).map_err(|e| damaged(&e))?;
    let shape = npy.shape().to_vec();
    let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
    if npy.order() != npyz::Order::C || elements.is_none_or(|n| n > size) {
        return Err(damaged(&"its header does not fit its data"));
    }
    let values = npy.into_vec().map_err(|e| damaged(&e))?;
    Ok(Array { shape, values })
}

fn parse_meta(bytes: &[u8]) -> Result<Meta> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u32,
        tool_version: String,
    }
    let damaged = |e: serde_json::Error| {
        Error::data(format!("the model's meta block cannot be read ({e})")).hint("the file is damaged: train the model again")
    };
    let version: Version = serde_json::from_slice(bytes).map_err(damaged)?;
    if version.schema_version > SCHEMA_VERSION {
        let what = format!("the model has schema version {}, this tool reads up to {SCHEMA_VERSION}", version.schema_version);
        return Err(Error::data(what).hint(format!("use version {} of the tool or newer", version.tool_version)));
    }
    let meta: Meta = serde_json::from_slice(bytes).map_err(damaged)?;
    check_meta(&meta)?;
    Ok(meta)
}

/// Refuses what this tool never writes and could not honour.
fn check_meta(meta: &Meta) -> Result<()> {
    let split = &meta.split;
    let parts = [&split.train_indices, &split.val_indices, &split.test_indices];
    let problem = if meta.input_normalized != meta.teacher_metric.normalizes() {
        "it contradicts itself in whether rows are normalised"
    } else if meta.data.dim != meta.dim_in || meta.k == 0 || meta.k > MAX_K {
        "it contradicts itself in dimensions or k"
    } else if !meta.nested.is_sorted_by(|a, b| a < b) || meta.nested.iter().any(|m| *m == 0 || *m > meta.dim_out) {
        "its nested dimensions are not some of its dimensions"
    } else if parts.iter().any(|part| part.is_empty() || part.iter().any(|row| *row as usize >= meta.data.rows)) {
        "its split is not one of its rows"
    } else {
        return Ok(());
    };
    Err(Error::data(format!("the model's meta block cannot be used: {problem}"))
        .hint("the file is damaged: train the model again"))
}
