//! One download, with as many requests as it takes.

use std::path::Path;
use std::time::Instant;

use banger_core::work::Work;
use banger_types::operation::Unit;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use crate::client::{Patience, broken, cancellable};
use crate::partial::{self, Partial};
use crate::{DownloadError, Source};

/// How often in a row next to nothing may come before it is given up.
const ATTEMPTS: u32 = 4;
/// What has to come so that a failure is the first again, bytes: else a server that gives a byte each time is never
/// given up.
const PROGRESS: u64 = 64 << 10;

/// Who is asked for files.
pub(crate) trait Server: Sync {
    /// Asks for what a file has from a place on.
    fn ask(
        &self,
        url: &str,
        from: u64,
        work: &dyn Work,
    ) -> impl Future<Output = Result<Response, DownloadError>> + Send;
}

pub(crate) struct Transfer<'a, S> {
    pub(crate) server: &'a S,
    pub(crate) patience: Patience,
    pub(crate) source: &'a Source,
    pub(crate) destination: &'a Path,
    pub(crate) work: &'a dyn Work,
}

impl<S: Server> Transfer<'_, S> {
    pub(crate) async fn run(&self) -> Result<(), DownloadError> {
        if partial::is_whole(self.source, self.destination) {
            self.work.log("it was downloaded before");
            return Ok(());
        }
        let partial = Partial::open(self.source, self.destination)?;
        let had_some = partial.length() > 0;
        match self.finish(partial).await {
            // What was there before may be what is wrong.
            Err(error @ DownloadError::Digest { .. }) if had_some => {
                self.work.log(&format!("{error}; once more from the beginning"));
                self.finish(Partial::open(self.source, self.destination)?).await
            }
            other => other,
        }
    }

    async fn finish(&self, mut partial: Partial) -> Result<(), DownloadError> {
        match self.fill(&mut partial).await {
            Ok(()) => partial.complete(self.source, self.destination),
            Err(error) => {
                let useless = matches!(error, DownloadError::Cancelled(_) | DownloadError::TooLong { .. });
                if useless || partial.length() == 0 {
                    partial.discard();
                }
                Err(error)
            }
        }
    }

    /// Asks until all of it is there.
    async fn fill(&self, partial: &mut Partial) -> Result<(), DownloadError> {
        let (mut failures, mut most) = (0, partial.length());
        loop {
            let Err(error) = self.request(partial).await else { return Ok(()) };
            let advanced = partial.length() >= most + PROGRESS;
            failures = if advanced { 1 } else { failures + 1 };
            if advanced {
                most = partial.length();
            }
            if !error.may_pass() || failures >= ATTEMPTS {
                return Err(error);
            }
            self.work.log(&format!("{error}; {} bytes are there; once more", partial.length()));
            let pause = tokio::time::sleep(self.patience.pause * 2_u32.pow(failures - 1));
            cancellable(self.work, pause).await?;
        }
    }

    /// Asks once for what is not there yet.
    async fn request(&self, partial: &mut Partial) -> Result<(), DownloadError> {
        let have = partial.length();
        let asked = self.server.ask(&self.source.url, have, self.work);
        let mut response = cancellable(self.work, asked).await??;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, have) => {}
            // Then without a word of parts.
            StatusCode::PARTIAL_CONTENT => {
                partial.clear()?;
                return Err(DownloadError::OtherPart { url: self.source.url.clone() });
            }
            StatusCode::OK => partial.clear()?,
            // It has no more than what is there: the digest says whether that is all of it.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
            status => return Err(DownloadError::Refused { url: self.source.url.clone(), status }),
        }
        let promised = response.content_length().map(|rest| partial.length() + rest);
        let mut pace = Pace { began: Instant::now(), bytes: 0 };
        while let Some(chunk) = cancellable(self.work, response.chunk())
            .await?
            .map_err(|error| broken(&self.source.url, error))?
        {
            self.keep_up(&mut pace, chunk.len())?;
            if partial.length() + chunk.len() as u64 > self.source.limit {
                return Err(DownloadError::TooLong {
                    url: self.source.url.clone(),
                    limit: self.source.limit,
                });
            }
            partial.append(&chunk)?;
            self.work.progress(partial.length(), promised, Unit::Bytes);
        }
        match promised {
            Some(promised) if partial.length() < promised => {
                Err(DownloadError::Cut { url: self.source.url.clone(), received: partial.length(), promised })
            }
            _ => Ok(()),
        }
    }

    /// Fails when too little comes: a server that gives a byte now and then would hold an operation for ever.
    fn keep_up(&self, pace: &mut Pace, came: usize) -> Result<(), DownloadError> {
        let Patience { window, least, .. } = self.patience;
        pace.bytes += came as u64;
        if pace.began.elapsed() < window {
            return Ok(());
        }
        if pace.bytes < least {
            let (url, seconds) = (self.source.url.clone(), window.as_secs());
            return Err(DownloadError::TooSlow { url, bytes: pace.bytes, seconds });
        }
        *pace = Pace { began: Instant::now(), bytes: 0 };
        Ok(())
    }
}

/// What has come since it was looked at last.
struct Pace {
    began: Instant,
    bytes: u64,
}

/// Whether an answer begins where it was asked to (RFC 9110, section 14.4).
fn begins_at(response: &Response, place: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(place)
}
