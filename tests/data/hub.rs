#![cfg(feature = "hub")]

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use embedding_compressor::data::{HubConfig, Token};
use sha2::{Digest, Sha256};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SECRET: &str = "hf_verysecrettoken";
const LISTING: &str = "/api/datasets/me/vectors/revision/main";

/// What the server was asked: path, range and authorization.
#[derive(Debug, Clone, Default)]
struct Request {
    path: String,
    range: Option<String>,
    token: Option<String>,
}

/// Status line, headers, body.
type Reply = (&'static str, Vec<String>, Vec<u8>);

/// A server on the loopback interface; it ends with the test process.
struct Server {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(request) = receive(&stream) else { continue };
                log.lock().unwrap().push(request.clone());
                let (status, headers, body) = answer(&request);
                let head: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
                let _ = write!(&stream, "HTTP/1.1 {status}\r\nconnection: close\r\n{head}\r\n");
                let _ = (&stream).write_all(&body);
            }
        });
        Self { endpoint, requests }
    }

    fn paths(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|r| r.path.clone()).collect()
    }
}

fn receive(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let mut request = Request { path: lines.next()?.split(' ').nth(1)?.to_string(), ..Request::default() };
    for (name, value) in lines.filter_map(|line| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_string()))) {
        match name.as_str() {
            "range" => request.range = Some(value),
            "authorization" => request.token = Some(value),
            _ => {}
        }
    }
    Some(request)
}

fn status(line: &'static str) -> Reply {
    (line, vec!["content-length: 0".to_string()], Vec::new())
}

fn listing(files: &[&str]) -> Reply {
    let siblings: Vec<_> = files.iter().map(|f| serde_json::json!({ "rfilename": f })).collect();
    let body = serde_json::json!({ "id": "me/vectors", "sha": COMMIT, "siblings": siblings }).to_string().into_bytes();
    ("200 OK", vec![format!("content-length: {}", body.len())], body)
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes asked for, of a file stored as a large one.
fn content(request: &Request, bytes: &[u8]) -> Reply {
    let range = request.range.as_deref().unwrap().strip_prefix("bytes=").unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let (start, end) = (start.parse::<usize>().unwrap(), end.parse::<usize>().unwrap_or(bytes.len() - 1));
    let headers = vec![
        format!("x-linked-etag: \"{}\"", sha256(bytes)),
        format!("x-repo-commit: {COMMIT}"),
        format!("content-range: bytes {start}-{end}/{}", bytes.len()),
        format!("content-length: {}", end + 1 - start),
    ];
    ("206 Partial Content", headers, bytes[start..=end].to_vec())
}

const SHARDS: [&str; 2] = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];

fn shard(index: usize) -> Vec<u8> {
    std::fs::read(fixture(["list_f4.parquet", "fixed_f8.parquet"][index])).unwrap()
}

/// A dataset of two shards, and a test split that is not wanted.
fn two_shards(request: &Request) -> Reply {
    let resolve = |index: usize| format!("/datasets/me/vectors/resolve/{COMMIT}/{}", SHARDS[index]);
    match &request.path {
        path if path == LISTING => listing(&[SHARDS[1], "README.md", "data/test-00000-of-00001.parquet", SHARDS[0]]),
        path if *path == resolve(0) => content(request, &shard(0)),
        path if *path == resolve(1) => content(request, &shard(1)),
        _ => status("404 Not Found"),
    }
}

fn vectors() -> Source {
    Source { hf_dataset: "me/vectors".to_string(), ..Source::default() }
}

fn config(endpoint: &str, cache: &Path) -> HubConfig {
    HubConfig { endpoint: endpoint.to_string(), cache: cache.to_path_buf(), token: Token::new(SECRET), offline: false }
}

fn offline(cache: &Path) -> HubConfig {
    // Nothing listens on port 1: an attempt to connect would be another error.
    HubConfig { offline: true, ..config("http://127.0.0.1:1", cache) }
}

fn rows(source: &Source, max_items: usize, config: &HubConfig) -> Result<(usize, String)> {
    let mut reader = source.open_with(max_items, false, config)?;
    let mut values = Vec::new();
    while let Some(block) = reader.next_block(7)? {
        values.extend(block.into_values()?);
    }
    assert!(values.iter().zip(matrix().iter().cycle()).all(|(a, b)| a == b));
    Ok((values.len() / DIM, reader.describe()))
}

/// The text and code of an input/output error of the hub, which never shows the token.
fn fails(source: &Source, max_items: usize, config: &HubConfig) -> String {
    let error = rows(source, max_items, config).unwrap_err();
    let (text, code) = message(&error);
    assert_eq!(code, 5, "{text}");
    assert!(!format!("{text}{error:?}{config:?}").contains(SECRET), "the token is shown: {text}");
    assert!(text.contains("me/vectors") && text.contains(config.cache.to_str().unwrap()), "{text}");
    text
}

#[test]
fn two_shards_are_downloaded_once_and_then_read_offline() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(two_shards);
    let online = config(&server.endpoint, cache.path());
    let (count, source) = rows(&vectors(), 0, &online).unwrap();
    assert_eq!(count, 24);
    assert!(source.contains(&format!("me/vectors@{COMMIT} (2 files)")), "{source}");
    assert!(server.requests.lock().unwrap().iter().all(|r| r.token == Some(format!("Bearer {SECRET}"))));

    let repo = cache.path().join("datasets--me--vectors");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    for (index, name) in SHARDS.iter().enumerate() {
        assert_eq!(std::fs::read(repo.join("snapshots").join(COMMIT).join(name)).unwrap(), shard(index));
        assert_eq!(std::fs::read(repo.join("blobs").join(sha256(&shard(index)))).unwrap(), shard(index));
    }
    assert_eq!(std::fs::read_dir(repo.join("blobs")).unwrap().count(), 2, "no temporary file is left");

    let before = server.paths().len();
    rows(&vectors(), 0, &online).unwrap();
    assert_eq!(server.paths()[before..], [LISTING]);
    let (count, source) = rows(&vectors(), 0, &offline(cache.path())).unwrap();
    assert!(count == 24 && source.contains(COMMIT) && source.contains("from the cache"), "{source}");
    let pinned = Source { hf_revision: Some(COMMIT.to_string()), ..vectors() };
    assert_eq!(rows(&pinned, 0, &offline(cache.path())).unwrap().0, 24);
}

#[test]
fn only_the_shards_needed_are_downloaded() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(two_shards);
    assert_eq!(rows(&vectors(), 12, &config(&server.endpoint, cache.path())).unwrap().0, 12);
    assert!(server.paths().iter().all(|path| !path.contains("00001-of")), "{:?}", server.paths());
    // Offline, what is there can be read, and what is not is missed.
    assert_eq!(rows(&vectors(), 12, &offline(cache.path())).unwrap().0, 12);
    let text = fails_at_shard(&vectors(), &offline(cache.path()));
    assert!(text.contains("train-00001-of-00002") && text.contains("HF_HUB_OFFLINE"), "{text}");
}

fn fails_at_shard(source: &Source, config: &HubConfig) -> String {
    let (text, code) = message(&rows(source, 0, config).unwrap_err());
    assert_eq!(code, 5, "{text}");
    text
}

#[test]
fn offline_with_a_cold_cache() {
    let cache = tempfile::tempdir().unwrap();
    let text = fails(&vectors(), 0, &offline(cache.path()));
    for part in ["HF_HUB_OFFLINE", "HF_HOME", "--input", "examples/data/wordnet_minilm_384_sample.parquet"] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
}

#[test]
fn without_a_network() {
    let cache = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begin = Instant::now();
    let text = fails(&vectors(), 0, &config(&format!("http://127.0.0.1:{port}"), cache.path()));
    assert!(begin.elapsed() < Duration::from_secs(30));
    for part in ["HF_ENDPOINT", "--input", "examples/data/wordnet_minilm_384_sample.parquet"] {
        assert!(text.contains(part), "no {part} in: {text}");
    }
    let bad = HubConfig { endpoint: "ftp://x".to_string(), ..offline(cache.path()) };
    let bad = HubConfig { offline: false, ..bad };
    assert_eq!(rows(&vectors(), 0, &bad).unwrap_err().exit_code(), 2);
}

#[test]
fn gated_and_missing() {
    let cache = tempfile::tempdir().unwrap();
    for (line, part) in [
        ("401 Unauthorized", "HF_TOKEN"),
        ("403 Forbidden", "terms"),
        ("404 Not Found", "--hf-dataset"),
        ("418 Teapot", "unexpected"),
    ] {
        let server = Server::start(move |_| status(line));
        let text = fails(&vectors(), 0, &config(&server.endpoint, cache.path()));
        assert!(text.contains(part) && text.contains(&line[..3]), "{text}");
        assert_eq!(server.paths().len(), 1, "{line} is final");
        let anonymous = HubConfig { token: None, ..config(&server.endpoint, cache.path()) };
        assert!(fails(&vectors(), 0, &anonymous).contains(part));
    }
}

#[test]
fn passing_faults_are_waited_out_and_cut_downloads_resumed() {
    let cache = tempfile::tempdir().unwrap();
    let faults = Mutex::new(0);
    let server = Server::start(move |request| {
        let mut faults = faults.lock().unwrap();
        *faults += 1;
        match (*faults, &request.range) {
            (1, _) => {
                ("503 Service Unavailable", vec!["retry-after: 0".to_string(), "content-length: 0".to_string()], Vec::new())
            }
            (_, Some(range)) if range == "bytes=0-" => {
                let (line, headers, mut body) = two_shards(request);
                body.truncate(body.len() / 3);
                (line, headers, body)
            }
            _ => two_shards(request),
        }
    });
    assert_eq!(rows(&vectors(), 0, &config(&server.endpoint, cache.path())).unwrap().0, 24);
    let resumed = format!("bytes={}-", shard(0).len() / 3);
    assert!(server.requests.lock().unwrap().iter().any(|r| r.range.as_ref() == Some(&resumed)), "not resumed at {resumed}");
}

#[test]
fn a_server_that_never_delivers_is_given_up() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match two_shards(request) {
        (line, headers, _) if request.range.as_deref() == Some("bytes=0-") => (line, headers, Vec::new()),
        reply => reply,
    });
    let text = fails_at_shard(&vectors(), &config(&server.endpoint, cache.path()));
    assert!(text.contains("cannot get the data"), "{text}");
    assert_eq!(std::fs::read_dir(cache.path().join("datasets--me--vectors/blobs")).unwrap().count(), 0);
}

#[test]
fn a_wrong_checksum_is_noticed() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| {
        let (line, headers, mut body) = two_shards(request);
        if request.range.as_deref() == Some("bytes=0-") {
            body[100] ^= 1;
        }
        (line, headers, body)
    });
    assert!(fails_at_shard(&vectors(), &config(&server.endpoint, cache.path())).contains("checksum"));
}

#[test]
fn the_token_stays_with_the_hub() {
    let cache = tempfile::tempdir().unwrap();
    let elsewhere = Server::start(|request| content(request, &shard(0)));
    let target = elsewhere.endpoint.clone();
    let server = Server::start(move |request| match two_shards(request) {
        (_, mut headers, _) if request.range.is_some() => {
            headers.retain(|h| !h.starts_with("content-"));
            headers.extend([format!("location: {target}/signed?x=1"), "content-length: 0".to_string()]);
            ("302 Found", headers, Vec::new())
        }
        reply => reply,
    });
    assert_eq!(rows(&vectors(), 12, &config(&server.endpoint, cache.path())).unwrap().0, 12);
    let asked = elsewhere.requests.lock().unwrap();
    assert!(asked.len() == 2 && asked.iter().all(|r| r.token.is_none()), "{asked:?}");
}

#[test]
fn a_redirect_within_the_hub_is_followed() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| match request.path.strip_prefix("/moved") {
        Some(path) => two_shards(&Request { path: path.to_string(), ..request.clone() }),
        None if request.range.is_some() => (
            "307 Temporary Redirect",
            vec![format!("location: /moved{}", request.path), "content-length: 0".to_string()],
            Vec::new(),
        ),
        None => two_shards(request),
    });
    assert_eq!(rows(&vectors(), 0, &config(&server.endpoint, cache.path())).unwrap().0, 24);
    assert!(server.requests.lock().unwrap().iter().all(|r| r.token.is_some()));
}

#[test]
fn hostile_answers_write_nothing_outside_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    for name in ["../train-x.parquet", "/train.parquet", "data/../../train.parquet", "data\\train.parquet"] {
        let server = Server::start(move |_| listing(&[name]));
        let (text, code) = message(&rows(&vectors(), 0, &config(&server.endpoint, cache.path())).unwrap_err());
        assert!(code == 3 && text.contains("outside"), "{text}");
        assert_eq!(server.paths(), [LISTING]);
    }
    let server = Server::start(|request| match two_shards(request) {
        (line, mut headers, body) if request.range.is_some() => {
            headers[0] = "etag: \"../../../escaped\"".to_string();
            (line, headers, body)
        }
        reply => reply,
    });
    assert!(fails_at_shard(&vectors(), &config(&server.endpoint, cache.path())).contains("etag"));
    for dataset in ["../x", "a/b/c", "", "a/..", "a b"] {
        let source = Source { hf_dataset: dataset.to_string(), ..Source::default() };
        assert_eq!(source.open_with(0, false, &config(&server.endpoint, cache.path())).unwrap_err().exit_code(), 2, "{dataset}");
    }
}

#[test]
fn a_revision_that_is_none_and_an_answer_without_a_commit_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ("200 OK", vec!["content-length: 24".to_string()], br#"{"sha":"","siblings":[]}"#.to_vec()));
    let config = config(&server.endpoint, cache.path());
    let text = fails(&vectors(), 0, &config);
    assert!(text.contains("names no commit") && text.contains("HF_ENDPOINT"), "{text}");
    let source = Source { hf_revision: Some("../main".to_string()), ..vectors() };
    let (text, code) = message(&rows(&source, 0, &config).unwrap_err());
    assert!(code == 2 && text.contains("--hf-revision ../main") && text.contains("a branch, a tag or a commit"), "{text}");
}

/// Which files are chosen, in order, from a listing; or the error.
fn chosen(files: &'static [&'static str], patterns: &[&str]) -> Result<Vec<String>> {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(move |request| match &request.path {
        path if path == LISTING => listing(files),
        _ => content(request, &shard(0)),
    });
    let source = Source { hf_parquet_file: patterns.iter().map(ToString::to_string).collect(), ..vectors() };
    rows(&source, 0, &config(&server.endpoint, cache.path()))?;
    let prefix = format!("/datasets/me/vectors/resolve/{COMMIT}/");
    Ok(server.paths().iter().filter_map(|path| path.strip_prefix(&prefix).map(str::to_string)).collect::<Vec<_>>()).map(
        |mut names| {
            names.dedup();
            names
        },
    )
}

#[test]
fn the_train_split_is_found_under_its_many_names() {
    let hashed = ["data/train-00000-of-00001-242eaed106d2f303.parquet"];
    assert_eq!(
        chosen(&["data/test-00000-of-00001-00.parquet", "data/train-00000-of-00001-242eaed106d2f303.parquet"], &[]).unwrap(),
        hashed
    );
    assert_eq!(
        chosen(&["default/train/0000.parquet", "default/test/0000.parquet"], &[]).unwrap(),
        ["default/train/0000.parquet"]
    );
    assert_eq!(chosen(&["chunk00.parquet", "validation.parquet", "x.json"], &[]).unwrap(), ["chunk00.parquet"]);
    assert_eq!(chosen(&["my data/vektören.parquet"], &[]).unwrap(), ["my%20data/vekt%C3%B6ren.parquet"]);
    // `test` is a word of the folder, but a train split is there.
    assert_eq!(chosen(&["test-suite/train.parquet"], &[]).unwrap(), ["test-suite/train.parquet"]);
    for (files, code, part) in [
        (&["README.md"][..], 3, "refs/convert/parquet"),
        (&["de/train.parquet", "en/train.parquet"], 2, "--hf-parquet-file"),
        (&["data/train-00000-of-00002.parquet"], 3, "train-00001-of-00002"),
    ] {
        let (text, exit) = message(&chosen(files, &[]).unwrap_err());
        assert!(exit == code && text.contains(part), "{text}");
    }
}

#[test]
fn files_can_be_chosen() {
    const FILES: &[&str] = &["de/train.parquet", "en/a.parquet", "en/b.parquet"];
    assert_eq!(chosen(FILES, &["de/train.parquet"]).unwrap(), ["de/train.parquet"]);
    let (text, code) = message(&chosen(FILES, &["fr/*.parquet"]).unwrap_err());
    assert!(code == 3 && text.contains("en/a.parquet"), "{text}");
    let (text, code) = message(&chosen(FILES, &["en/*", "en/a.parquet"]).unwrap_err());
    assert!(code == 2 && text.contains("named twice: ") && text.contains("en/a.parquet"), "{text}");
}

#[test]
fn a_pattern_finds_whole_sets_of_shards_and_a_name_any_shard() {
    const FILES: &[&str] = &["t-00000-of-00003.parquet", "t-00002-of-00003.parquet"];
    let (text, code) = message(&chosen(FILES, &["t-*"]).unwrap_err());
    assert!(code == 3 && text.contains("t-00001-of-00003"), "{text}");
    assert_eq!(chosen(FILES, &[FILES[1]]).unwrap(), [FILES[1]]);
    assert_eq!(chosen(FILES, FILES).unwrap(), FILES);
}

#[test]
fn offline_what_is_asked_for_is_in_the_cache_or_missed() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("datasets--me--vectors/snapshots/main/data");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"] {
        std::fs::write(folder.join(name), shard(0)).unwrap();
    }
    let asking = |pattern: &str| Source { hf_parquet_file: vec![pattern.to_string()], ..vectors() };
    let offline = offline(cache.path());
    for pattern in ["data/train-*", "data/train-00001-of-00003.parquet", "data/test-*", "../main/data/train-00000*"] {
        let (text, code) = message(&rows(&asking(pattern), 0, &offline).unwrap_err());
        assert!(code == 5 && text.contains("not in the cache") && text.contains("me/vectors"), "{pattern}: {text}");
        let missing = if pattern == "data/train-*" { "data/train-00001-of-00003" } else { pattern };
        assert!(text.contains(missing), "{pattern}: {text}");
    }
    // Enough rows come before the gap, or the file is named.
    assert_eq!(rows(&asking("data/train-*"), 12, &offline).unwrap().0, 12);
    assert_eq!(rows(&asking("data/train-00002-of-00003.parquet"), 0, &offline).unwrap().0, 12);
}

#[test]
fn the_variables_that_everyone_uses() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), format!("{SECRET}\n")).unwrap();
    let home = folder.path().to_str().unwrap();
    let from = |variables: &[(&str, &str)]| {
        let table: HashMap<_, _> = variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect();
        HubConfig::from_lookup(|name| table.get(name).cloned())
    };
    let plain = from(&[("HOME", "/h")]);
    assert_eq!(
        (plain.endpoint.as_str(), plain.cache.as_path()),
        ("https://huggingface.co", Path::new("/h/.cache/huggingface/hub"))
    );
    assert!(plain.token.is_none() && !plain.offline);
    assert_eq!(from(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).cache, Path::new("/x/huggingface/hub"));
    let with_home = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("HF_HOME", home)];
    assert_eq!(from(&with_home).cache, folder.path().join("hub"));
    assert_eq!(from(&with_home).token, Token::new(SECRET));
    assert_eq!(from(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/y")]).cache, Path::new("/old"));
    assert_eq!(from(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]).cache, Path::new("/new"));
    assert_eq!(from(&[("HF_TOKEN", " t\n"), ("HF_HOME", home)]).token, Token::new("t"));
    assert_eq!(from(&[("HF_TOKEN_PATH", &format!("{home}/token"))]).token, Token::new(SECRET));
    assert!(from(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token.is_none());
    assert_eq!(from(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
    assert!(from(&[("HF_HUB_OFFLINE", "true")]).offline && !from(&[("HF_HUB_OFFLINE", "0")]).offline);
}
