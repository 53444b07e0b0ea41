//! How the Hugging Face hub is reached: the variables that all its tools share.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::Source;
use crate::Result;

/// What to do when the hub is out of reach.
#[cfg(feature = "hub")]
pub(super) const SAMPLE_HINT: &str =
    "read a file instead: --input PATH, for example --input examples/data/wordnet_minilm_384_sample.parquet";

/// An access token; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token without the white space around it; `None` when nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        Some(text.trim()).filter(|t| !t.is_empty()).map(|t| Self(t.to_string()))
    }

    #[cfg(feature = "hub")]
    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the hub is, where its files are kept, and who asks.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Address of the hub, without a slash at the end.
    pub endpoint: String,
    /// Folder with `datasets--OWNER--NAME` folders, shared with the Python tools.
    pub cache: PathBuf,
    /// Sent to `endpoint` and to no other host.
    pub token: Option<Token>,
    /// Use the cache and open no connection.
    pub offline: bool,
}

impl HubConfig {
    /// The configuration of this process: `HF_ENDPOINT`; `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`; `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`; `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// The same from any table of variables; an empty value counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let text = |name: &str| get(name).and_then(|value| value.into_string().ok());
        let truth =
            |name: &str| text(name).is_some_and(|v| ["1", "ON", "YES", "TRUE"].contains(&v.to_ascii_uppercase().as_str()));

        let user = path("HOME").or_else(|| path("USERPROFILE")).unwrap_or_default();
        let home =
            path("HF_HOME").unwrap_or_else(|| path("XDG_CACHE_HOME").unwrap_or_else(|| user.join(".cache")).join("huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let stored = |file: &Path| fs::read_to_string(file).ok().and_then(|text| Token::new(&text));
        let token = text("HF_TOKEN").and_then(|text| Token::new(&text));
        let token = token.or_else(|| {
            let allowed = !truth("HF_HUB_DISABLE_IMPLICIT_TOKEN");
            allowed.then(|| stored(&path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")))).flatten()
        });
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        Self { endpoint: endpoint.trim_end_matches('/').to_string(), cache, token, offline: truth("HF_HUB_OFFLINE") }
    }
}

/// Files of a dataset on this machine, each downloaded when the iterator gets to it.
type Paths = Box<dyn Iterator<Item = Result<PathBuf>>>;

/// The dataset that `source` names, and its description.
#[cfg(feature = "hub")]
pub(super) fn open(source: &Source, config: &HubConfig) -> Result<(Paths, String)> {
    let dataset = super::dataset::Dataset::open(source, config)?;
    let description = dataset.describe();
    Ok((Box::new(dataset.into_paths()), description))
}

/// Says that this build reads files only.
#[cfg(not(feature = "hub"))]
pub(super) fn open(source: &Source, _: &HubConfig) -> Result<(Paths, String)> {
    Err(crate::Error::usage("this program was built without the hub feature and cannot read datasets")
        .at(format!("--hf-dataset {}", source.hf_dataset))
        .hint("name a file with --input, or build with --features hub"))
}
