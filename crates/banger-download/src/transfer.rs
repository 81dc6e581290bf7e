//! One download, with as many requests as it takes.

use std::path::Path;
use std::time::Duration;

use banger_core::work::Work;
use banger_types::operation::Unit;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};

use crate::partial::{self, Partial};
use crate::{DownloadError, Source};

/// How often in a row nothing may come before it is given up.
const ATTEMPTS: u32 = 4;
/// What is waited after the first time; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);

pub(crate) struct Transfer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) source: &'a Source,
    pub(crate) destination: &'a Path,
    pub(crate) work: &'a dyn Work,
}

impl Transfer<'_> {
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
            failures = if partial.length() > most { 1 } else { failures + 1 };
            most = most.max(partial.length());
            if !may_pass(&error) || failures >= ATTEMPTS {
                return Err(error);
            }
            self.work.log(&format!("{error}; {} bytes are there; once more", partial.length()));
            self.cancellable(tokio::time::sleep(PAUSE * 2_u32.pow(failures - 1))).await?;
        }
    }

    /// Asks once for what is not there yet.
    async fn request(&self, partial: &mut Partial) -> Result<(), DownloadError> {
        let mut request = self.client.get(&self.source.url);
        let have = partial.length();
        if have > 0 {
            request = request.header(RANGE, format!("bytes={have}-"));
        }
        let mut response = self.cancellable(request.send()).await?.map_err(|error| self.broken(error))?;
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
        while let Some(chunk) =
            self.cancellable(response.chunk()).await?.map_err(|error| self.broken(error))?
        {
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

    /// Waits for `future`, but not beyond a cancel.
    async fn cancellable<T>(&self, future: impl Future<Output = T>) -> Result<T, DownloadError> {
        self.work.check()?;
        let (notify, cancelled) = tokio::sync::oneshot::channel();
        let _guard = self.work.on_cancel(Box::new(move || _ = notify.send(())));
        tokio::select! {
            biased;
            value = future => Ok(value),
            Ok(()) = cancelled => Err(DownloadError::Cancelled(banger_core::work::Cancelled)),
        }
    }

    fn broken(&self, source: reqwest::Error) -> DownloadError {
        // The address stands in the error already.
        DownloadError::Transport { url: self.source.url.clone(), source: source.without_url() }
    }
}

/// Whether the same request may do better a moment later.
fn may_pass(error: &DownloadError) -> bool {
    match error {
        DownloadError::Transport { source, .. } => !source.is_builder() && !source.is_redirect(),
        DownloadError::Cut { .. } | DownloadError::OtherPart { .. } => true,
        DownloadError::Refused { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
        _ => false,
    }
}

/// Whether an answer begins where it was asked to (RFC 9110, section 14.4).
fn begins_at(response: &Response, place: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()) == Some(place)
}
