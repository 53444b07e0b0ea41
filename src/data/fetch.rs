//! Requests to the hub: bounded in time, resumed, and with the token for the hub alone.
//!
//! hf-hub's own client waits for ever, passes the token on to the hosts that the hub redirects to, and panics on
//! some answers, so only its cache and its types are used. The requests are the ones it makes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use super::atomic_write;
use super::embeddings::hex;
use super::hub::{HubConfig, SAMPLE_HINT, Token};
use crate::{Error, Result};

const ATTEMPTS: u32 = 3;
/// No attempt begins later than this; with the longest attempt (`RESOLVE + CONNECT + ANSWER`) it makes 30 s.
const PATIENCE: Duration = Duration::from_secs(12);
const RESOLVE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer, and for each further piece of its body.
const ANSWER: Duration = Duration::from_secs(10);
const REDIRECTS: usize = 6;
/// Longest listing read, in bytes.
const LISTING_LIMIT: u64 = 256 << 20;

/// Talks to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
}

/// A file as the hub describes it.
pub(super) struct Remote {
    url: String,
    /// Names the content; safe as a file name.
    pub(super) etag: String,
    /// In bytes.
    pub(super) size: u64,
    /// Hexadecimal, where the hub states it.
    sha256: Option<String>,
}

/// An answer after redirects.
struct Answer {
    response: Response<Body>,
    /// What the first host that gave one called the content, and whether that is its SHA-256.
    etag: Option<(String, bool)>,
}

/// Why an attempt failed.
enum Failure {
    /// Trying again cannot help.
    Final(Error),
    /// It may help, after the time that the server asks for.
    Passing(String, Option<Duration>),
}

impl Client {
    pub(super) fn new(config: &HubConfig) -> Result<Self> {
        if origin(&config.endpoint).is_none() {
            return Err(Error::usage("HF_ENDPOINT is not an http(s) address").at(&config.endpoint));
        }
        let agent = Agent::config_builder()
            .max_redirects(0)
            .http_status_as_error(false)
            // A compressed answer has no byte ranges to resume from.
            .accept_encoding("identity")
            .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(RESOLVE))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(ANSWER))
            .build();
        Ok(Self { agent: agent.into(), endpoint: config.endpoint.clone(), token: config.token.clone() })
    }

    /// Fetches and parses a JSON document; `path` is relative to the endpoint.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}/{path}", self.endpoint);
        self.patiently(|| {
            let mut body = self.send(&url, None)?.response.into_body();
            let text = body.with_config().limit(LISTING_LIMIT).read_to_string().map_err(passing)?;
            serde_json::from_str(&text).map_err(|e| {
                Failure::Final(Error::io(format!("the hub's answer is not understood ({e})")).hint("check HF_ENDPOINT"))
            })
        })
    }

    /// Asks for size and etag of the file at `path`, relative to the endpoint.
    pub(super) fn locate(&self, path: &str) -> Result<Remote> {
        let url = format!("{}/{}", self.endpoint, encoded(path));
        let answer = self.patiently(|| self.send(&url, Some("bytes=0-0")))?;
        let range_total = header(&answer.response, "content-range").and_then(|range| range.rsplit('/').next()?.parse().ok());
        let whole = || header(&answer.response, "content-length").and_then(|length| length.parse().ok());
        let size = if answer.response.status() == StatusCode::PARTIAL_CONTENT { range_total } else { whole() };
        match (size, answer.etag) {
            (Some(size), Some((etag, is_sha256))) => Ok(Remote { url, sha256: is_sha256.then(|| etag.clone()), etag, size }),
            _ => Err(Error::io("the hub's answer has no etag or no size").hint("check HF_ENDPOINT")),
        }
    }

    /// Downloads a file; `target` appears when it is complete.
    pub(super) fn download(&self, remote: &Remote, name: &str, target: &Path) -> Result<()> {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ({eta})";
        let bar = ProgressBar::new(remote.size).with_message(name.to_string());
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        atomic_write(target, |file| {
            self.fill(remote, file, &bar)?;
            bar.finish_and_clear();
            if remote.sha256.is_some() && remote.sha256 != sha256(file) {
                return Err(Error::io("the download does not have the checksum that the hub states").hint("try again"));
            }
            Ok(())
        })
    }

    /// Writes all of `remote`, resuming where a connection broke; gives up when attempts bring nothing new.
    fn fill(&self, remote: &Remote, file: &mut File, bar: &ProgressBar) -> Result<()> {
        let mut done = 0;
        while done < remote.size {
            let furthest = done;
            done = self.patiently(|| {
                let result = self.append(remote, &mut done, file, bar);
                // Progress earns new patience.
                if done > furthest { result.or(Ok(())) } else { result }.map(|()| done)
            })?;
        }
        Ok(())
    }

    /// One request for the bytes from `done` on.
    fn append(&self, remote: &Remote, done: &mut u64, file: &mut File, bar: &ProgressBar) -> Result<(), Failure> {
        let broken = |e: &std::io::Error| Failure::Final(Error::file("write the download", Path::new("the hub's cache"), e));
        let answer = self.send(&remote.url, Some(&format!("bytes={done}-")))?;
        if answer.response.status() != StatusCode::PARTIAL_CONTENT {
            // The server sends the whole file whatever was asked for.
            *done = 0;
        }
        file.seek(SeekFrom::Start(*done)).map_err(|e| broken(&e))?;
        let mut body = answer.response.into_body().into_reader().take(remote.size - *done);
        let mut buffer = vec![0; 1 << 16];
        while *done < remote.size {
            let count = body.read(&mut buffer).map_err(passing)?;
            if count == 0 {
                return Err(Failure::Passing("the connection closed early".to_string(), None));
            }
            file.write_all(&buffer[..count]).map_err(|e| broken(&e))?;
            *done += count as u64;
            bar.set_position(*done);
        }
        Ok(())
    }

    /// One request, following redirects.
    fn send(&self, url: &str, range: Option<&str>) -> Result<Answer, Failure> {
        let mut url = url.to_string();
        let mut etag = None;
        for _ in 0..REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            if let Some(token) = self.token.as_ref().filter(|_| origin(&url) == origin(&self.endpoint)) {
                request = request.header("Authorization", format!("Bearer {}", token.secret()));
            }
            let response = request.call().map_err(passing)?;
            etag = etag.or_else(|| content_name(&response));
            if !response.status().is_redirection() {
                return judge(&response, self.token.is_some()).map(|()| Answer { response, etag });
            }
            let location = header(&response, "location").and_then(|to| absolute(&url, to));
            url = location.ok_or_else(|| Failure::Final(Error::io("the hub redirects to no valid address")))?;
        }
        Err(Failure::Final(Error::io("the hub redirects in circles")))
    }

    /// Tries a few times within half a minute.
    fn patiently<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let begin = Instant::now();
        for number in 1.. {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason, after)) => {
                    let pause = after.unwrap_or(Duration::from_millis(250 << number));
                    if number >= ATTEMPTS || begin.elapsed() + pause > PATIENCE {
                        return Err(Error::io("cannot get the data from the Hugging Face hub")
                            .at(format!("{}: {reason}", self.endpoint))
                            .hint(format!(
                                "check the network and HF_ENDPOINT, set HF_HUB_OFFLINE=1 if the data is cached, or {SAMPLE_HINT}"
                            )));
                    }
                    sleep(pause);
                }
            }
        }
        unreachable!("the loop ends by returning")
    }
}

fn passing(reason: impl std::fmt::Display) -> Failure {
    Failure::Passing(reason.to_string(), None)
}

/// Turns a status into success or failure.
fn judge(response: &Response<Body>, has_token: bool) -> Result<(), Failure> {
    let status = response.status();
    let refused = |what: &str, hint: &str| Err(Failure::Final(Error::io(format!("{what} ({status})")).hint(hint)));
    match status.as_u16() {
        200..=299 => Ok(()),
        401 | 403 if has_token => refused(
            "the hub refuses access",
            "accept the dataset's terms on its page, and check that HF_TOKEN is valid and may read it; a wrong name gives the same answer",
        ),
        401 | 403 => refused(
            "the hub refuses access",
            "accept the dataset's terms on its page and set HF_TOKEN; a wrong name gives the same answer",
        ),
        404 => {
            refused("the hub has no such dataset, revision or file", "check --hf-dataset, --hf-revision and --hf-parquet-file")
        }
        429 | 500.. => {
            let after = header(response, "retry-after").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
            Err(Failure::Passing(status.to_string(), after))
        }
        _ => refused("the hub gives an unexpected answer", "check HF_ENDPOINT"),
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// The etag that names the content, where it is safe as a file name, and whether it is a SHA-256: that of a large file is.
fn content_name(response: &Response<Body>) -> Option<(String, bool)> {
    let linked = header(response, "x-linked-etag");
    let etag = linked.or_else(|| header(response, "etag"))?.trim_start_matches("W/").trim_matches('"');
    let safe = etag.len() >= 2 && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let is_sha256 = linked.is_some() && etag.len() == 64 && etag.chars().all(|c| c.is_ascii_hexdigit());
    safe.then(|| (etag.to_string(), is_sha256))
}

/// A path as an address spells it.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/-._~=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

/// Scheme, host and port of an http(s) address.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| ["http", "https"].contains(s))?.to_string();
    Some((scheme, uri.authority()?.as_str().to_ascii_lowercase()))
}

/// Where a redirect from `url` leads.
fn absolute(url: &str, location: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        let (scheme, authority) = origin(url)?;
        return Some(format!("{scheme}://{authority}{location}"));
    }
    origin(location).map(|_| location.to_string())
}

fn sha256(file: &mut File) -> Option<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    file.rewind().ok()?;
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
