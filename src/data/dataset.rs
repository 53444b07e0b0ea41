//! One dataset of the Hugging Face hub: its commit, its files, and the cache they share with everyone's tools.

use std::fs;
use std::path::{Component, Path, PathBuf};

use hf_hub::api::RepoInfo;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::Source;
use super::fetch::Client;
use super::hub::{HubConfig, SAMPLE_HINT};
use super::shards::first_gap;
use super::source::named_twice;
use crate::{Error, Result};

/// Folders deep that a cached snapshot is searched.
const DEPTH: usize = 8;

/// A dataset at one commit, and which of its files to read.
pub(super) struct Dataset {
    /// `None` when offline.
    client: Option<Client>,
    cache: CacheRepo,
    id: String,
    commit: String,
    /// In name order.
    files: Vec<String>,
    /// Offline: what should follow `files` and is not in the cache.
    missing: Option<String>,
}

impl Dataset {
    /// Resolves the revision and chooses the files; downloads none of them.
    pub(super) fn open(source: &Source, config: &HubConfig) -> Result<Self> {
        let id = &source.hf_dataset;
        let revision = source.hf_revision.as_deref().unwrap_or("main");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if !in_folder(id) || id.split('/').count() > 2 || !id.chars().all(|c| plain(c) || c == '/') {
            return Err(Error::usage("not a dataset of the hub").at(format!("--hf-dataset {id}")).hint("write OWNER/NAME"));
        }
        if !in_folder(revision) || !revision.chars().all(|c| plain(c) || c == '/') {
            return Err(Error::usage("not a revision of a dataset")
                .at(format!("--hf-revision {revision}"))
                .hint("write a branch, a tag or a commit, for example main"));
        }
        let repo = Repo::with_revision(id.clone(), RepoType::Dataset, revision.to_string());
        let opened = if config.offline { Self::cached(source, config, &repo) } else { Self::remote(source, config, &repo) };
        opened.map_err(|e| e.at(format!("dataset {id}, cache {}", config.cache.display())))
    }

    /// Asks the hub.
    fn remote(source: &Source, config: &HubConfig, repo: &Repo) -> Result<Self> {
        let client = Client::new(config)?;
        let info: RepoInfo = client.json(&format!("api/{}", repo.api_url()))?;
        let commit = info.sha;
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::io("the hub's answer names no commit")
                .hint(format!("check that HF_ENDPOINT is a Hugging Face hub, or {SAMPLE_HINT}")));
        }
        let names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
        let Choice { files, missing } = choose(&names, &source.hf_parquet_file)?;
        if let Some((name, error)) = missing {
            return Err(error.at(name));
        }
        let cache = Cache::new(config.cache.clone()).repo(repo.clone());
        if repo.revision() != commit {
            cache
                .create_ref(&commit)
                .map_err(|e| Error::file("write", &config.cache, &e).hint("point HF_HOME at a writable folder"))?;
        }
        Ok(Self { client: Some(client), cache, id: source.hf_dataset.clone(), commit, files, missing: None })
    }

    /// Looks in the cache only: what a listing would say is what the snapshot holds.
    fn cached(source: &Source, config: &HubConfig, repo: &Repo) -> Result<Self> {
        let cache = Cache::new(config.cache.clone()).repo(repo.clone());
        let reference = config.cache.join(repo.folder_name()).join("refs").join(repo.revision());
        let commit = fs::read_to_string(reference).map_or_else(|_| repo.revision().to_string(), |text| text.trim().to_string());
        let mut names = Vec::new();
        if in_folder(&commit) {
            walk(&cache.pointer_path(&commit), "", DEPTH, &mut names);
        }
        if names.is_empty() {
            return Err(not_cached());
        }
        let Choice { files, missing } = choose(&names, &source.hf_parquet_file)?;
        let missing = missing.map(|(name, _)| name);
        Ok(Self { client: None, cache, id: source.hf_dataset.clone(), commit, files, missing })
    }

    /// Dataset and commit, for people.
    pub(super) fn describe(&self) -> String {
        let partial =
            if self.files.iter().any(|f| f.contains("partial-train/")) { ", only the part the hub converted" } else { "" };
        let offline = if self.client.is_none() { ", from the cache" } else { "" };
        format!("{}@{} ({} files{partial}{offline})", self.id, self.commit, self.files.len())
    }

    /// The files on this machine, each downloaded when its turn comes.
    pub(super) fn into_paths(self) -> impl Iterator<Item = Result<PathBuf>> {
        let missing = self.missing.clone().map(|name| Err(not_cached().at(format!("dataset {}: {name}", self.id))));
        let files = self.files.clone();
        files
            .into_iter()
            .map(move |file| self.path(&file).map_err(|e| e.at(format!("dataset {}: {file}", self.id))))
            .chain(missing)
    }

    fn path(&self, file: &str) -> Result<PathBuf> {
        let pointer = self.cache.pointer_path(&self.commit).join(file);
        match &self.client {
            _ if pointer.is_file() => Ok(pointer),
            None => Err(not_cached()),
            Some(client) => {
                let remote = client.locate(&format!("datasets/{}/resolve/{}/{file}", self.id, self.commit))?;
                let blob = self.cache.blob_path(&remote.etag);
                if fs::metadata(&blob).map_or(0, |info| info.len()) != remote.size {
                    let folder = blob.parent().unwrap_or(Path::new(""));
                    fs::create_dir_all(folder).map_err(|e| Error::file("write", folder, &e))?;
                    client.download(&remote, file, &blob)?;
                }
                point(&pointer, &blob, &remote.etag, file).map_err(|e| Error::file("write", &pointer, &e))?;
                Ok(pointer)
            }
        }
    }
}

/// Makes `snapshots/<commit>/<file>` stand for `blobs/<etag>`.
fn point(pointer: &Path, blob: &Path, etag: &str, file: &str) -> std::io::Result<()> {
    fs::create_dir_all(pointer.parent().unwrap_or(Path::new("")))?;
    if pointer.is_symlink() {
        // It leads nowhere, or `path` would have returned it.
        fs::remove_file(pointer)?;
    }
    #[cfg(unix)]
    {
        let _ = blob;
        // Up through the folders of `file`, the commit and `snapshots`.
        std::os::unix::fs::symlink(format!("{}blobs/{etag}", "../".repeat(file.split('/').count() + 1)), pointer)
    }
    #[cfg(not(unix))]
    {
        let _ = (etag, file);
        fs::rename(blob, pointer)
    }
}

fn not_cached() -> Error {
    Error::io("not in the cache, and HF_HUB_OFFLINE forbids downloading")
        .hint(format!("unset HF_HUB_OFFLINE, or point HF_HOME or HF_HUB_CACHE at a cache that has it, or {SAMPLE_HINT}"))
}

/// Whether a path with `/` stays inside the folder it is joined to.
fn in_folder(path: &str) -> bool {
    !path.is_empty() && !path.contains(['\\', '\0']) && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// Collects the files below `folder` as paths with `/`.
fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, name) = (entry.path(), format!("{prefix}{name}"));
        if path.is_file() {
            names.push(name);
        } else if depth > 0 && path.is_dir() {
            walk(&path, &format!("{name}/"), depth - 1, names);
        }
    }
}

/// Which of a dataset's files to read.
#[derive(Default)]
struct Choice {
    files: Vec<String>,
    /// What was asked for, should follow `files` and is not there; with the error for a listing that is complete.
    missing: Option<(String, Error)>,
}

/// Chooses in name order: the files that match `patterns`, one after another, else the parquet files of the train split.
fn choose(files: &[String], patterns: &[String]) -> Result<Choice> {
    let mut tables: Vec<String> = files.iter().filter(|f| f.ends_with(".parquet")).cloned().collect();
    tables.sort();
    let choice = if patterns.is_empty() { whole(train_split(&tables)?) } else { matching(&tables, patterns)? };
    if let Some(bad) = choice.files.iter().find(|name| !in_folder(name)) {
        return Err(Error::data("the dataset's listing names a file outside the dataset").at(bad.escape_debug()));
    }
    Ok(choice)
}

/// Sorted files up to the first missing shard.
fn whole(mut files: Vec<String>) -> Choice {
    let missing = first_gap(&files).map(|gap| {
        files.truncate(gap.index);
        let error = Error::data("a shard is missing").hint("to read a part of the set, name its files with --hf-parquet-file");
        (gap.missing, error)
    });
    Choice { files, missing }
}

/// A file named outright is taken even when it is one shard of many.
fn matching(tables: &[String], patterns: &[String]) -> Result<Choice> {
    let mut choice = Choice::default();
    for pattern in patterns {
        let glob = glob::Pattern::new(pattern)
            .map_err(|e| Error::usage("not a valid file pattern").at(format!("--hf-parquet-file {pattern}: {e}")))?;
        let found = if tables.contains(pattern) {
            Choice { files: vec![pattern.clone()], missing: None }
        } else {
            whole(tables.iter().filter(|table| glob.matches(table)).cloned().collect())
        };
        if let Some(twice) = found.files.iter().find(|file| choice.files.contains(file)) {
            return Err(named_twice(format!("--hf-parquet-file {pattern}: {twice}")));
        }
        if found.files.is_empty() && found.missing.is_none() {
            let error = Error::data("the dataset has no such parquet file").hint(format!("it has {}", some(tables)));
            return Ok(Choice { missing: Some((pattern.clone(), error)), ..choice });
        }
        choice.files.extend(found.files);
        if found.missing.is_some() {
            return Ok(Choice { missing: found.missing, ..choice });
        }
    }
    Ok(choice)
}

fn train_split(tables: &[String]) -> Result<Vec<String>> {
    let named = |words: &[&str]| tables.iter().filter(|t| has_word(t, words)).cloned().collect::<Vec<_>>();
    let mut chosen = named(&["train", "training"]);
    if chosen.is_empty() {
        let held_out = named(&["test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev"]);
        chosen = tables.iter().filter(|t| !held_out.contains(t)).cloned().collect();
    }
    if chosen.is_empty() {
        return Err(Error::data("the dataset has no parquet files")
            .hint("the hub converts many datasets: try --hf-revision refs/convert/parquet"));
    }
    let folder = |name: &String| name.rsplit_once('/').map_or("", |(folder, _)| folder).to_string();
    let mut folders: Vec<String> = chosen.iter().map(folder).collect();
    folders.sort();
    folders.dedup();
    if folders.len() > 1 {
        return Err(Error::usage(format!("the dataset has parquet files in several folders: {}", some(&folders)))
            .hint("choose with --hf-parquet-file, for example --hf-parquet-file 'FOLDER/*.parquet'"));
    }
    Ok(chosen)
}

/// Whether one of `words` stands in the path between separators or digits, which is how the hub's own loader finds splits.
fn has_word(path: &str, words: &[&str]) -> bool {
    path.split(|c: char| "-._ /".contains(c) || c.is_ascii_digit()).any(|word| words.contains(&word))
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    shown.join(", ") + if names.len() > 10 { ", ..." } else { "" }
}
