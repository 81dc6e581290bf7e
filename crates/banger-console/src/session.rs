//! Who has signed in.
//!
//! Cookies know no ports: what a guest serves on another port of 127.0.0.1 is sent every cookie of that host whose path fits.
//! So a session's cookie is for a path that nobody can guess, under which all of its pages are; and it is of no use without
//! that path. Nothing is written down: sessions end with the daemon.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::secret::Secret;

/// How long a session lasts.
pub(crate) const SESSION_TIME: Duration = Duration::from_hours(24);
/// How long an invitation can be used.
pub(crate) const INVITATION_TIME: Duration = Duration::from_mins(10);
/// Most sessions and invitations at a time; the oldest go.
const MOST: usize = 64;
/// Most wrong invitations within [`GUESS_TIME`] that are looked at; then those who come with a wrong one are told to wait. A good one is
/// let in all the same: else any user of this host would keep its owner out. 192 random bits are not guessed at any pace.
const MOST_GUESSES: usize = 10;
/// How long a wrong invitation counts.
const GUESS_TIME: Duration = Duration::from_mins(1);
/// Most messages that wait for their page.
const MOST_MESSAGES: usize = 32;

/// Somebody who has signed in, with one browser.
#[derive(Debug)]
pub(crate) struct Session {
    prefix: Secret,
    cookie: Secret,
    form_key: Secret,
    ends: Instant,
    /// Cancelled when it has ended before that.
    ended: CancellationToken,
    messages: Mutex<Messages>,
}

/// What is to be said on the page that comes next.
#[derive(Debug, Default)]
struct Messages {
    next: u64,
    waiting: VecDeque<(u64, String)>,
}

impl Session {
    fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            prefix: Secret::new()?,
            cookie: Secret::new()?,
            form_key: Secret::new()?,
            ends: now + SESSION_TIME,
            ended: CancellationToken::new(),
            messages: Mutex::default(),
        })
    }

    /// Returns the path under which its pages are, without a slash at its end.
    pub(crate) fn path(&self) -> String {
        format!("/s/{}", self.prefix.reveal())
    }

    /// Returns the header that gives its browser the cookie.
    pub(crate) fn cookie(&self) -> String {
        let (cookie, path, age) = (self.cookie.reveal(), self.path(), SESSION_TIME.as_secs());
        format!("{COOKIE}={cookie}; Path={path}/; Max-Age={age}; HttpOnly; SameSite=Strict")
    }

    /// Returns the key that all of its forms have.
    pub(crate) fn form_key(&self) -> &str {
        self.form_key.reveal()
    }

    /// Returns whether a form has its key.
    pub(crate) fn has_form_key(&self, key: &str) -> bool {
        self.form_key.is(key)
    }

    /// Waits for its end: what goes on for longer than a request ends with it.
    pub(crate) async fn over(&self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = tokio::time::sleep_until(self.ends.into()) => {}
        }
    }

    /// Remembers what is to be said on the next page. Returns what that page asks for it by.
    pub(crate) fn leave(&self, message: String) -> u64 {
        let mut messages = locked(&self.messages);
        messages.next += 1;
        let number = messages.next;
        messages.waiting.push_back((number, message));
        if messages.waiting.len() > MOST_MESSAGES {
            messages.waiting.pop_front();
        }
        number
    }

    /// Returns what is to be said, once.
    pub(crate) fn take(&self, number: u64) -> Option<String> {
        let mut messages = locked(&self.messages);
        let at = messages.waiting.iter().position(|(known, _)| *known == number)?;
        messages.waiting.remove(at).map(|(_, message)| message)
    }
}

/// The cookie's name.
pub(crate) const COOKIE: &str = "banger";

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such invitation: it was never made, has been used, or is too old.
    Unknown,
    /// There were too many wrong ones in the last minute.
    TooMany,
}

/// All sessions, and invitations to more.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    sessions: VecDeque<Arc<Session>>,
    invitations: VecDeque<(Secret, Instant)>,
    guesses: VecDeque<Instant>,
}

impl Sessions {
    /// Makes an invitation, and returns what it is known by.
    pub(crate) fn invite(&self) -> io::Result<String> {
        self.invite_at(Instant::now())
    }

    fn invite_at(&self, now: Instant) -> io::Result<String> {
        let token = Secret::new()?;
        let shown = token.reveal().to_owned();
        let mut inner = locked(&self.0);
        inner.forget(now);
        inner.invitations.push_back((token, now + INVITATION_TIME));
        if inner.invitations.len() > MOST {
            inner.invitations.pop_front();
        }
        Ok(shown)
    }

    /// Lets somebody in who has an invitation, which is used up with that.
    pub(crate) fn accept(&self, token: &str) -> io::Result<Result<Arc<Session>, Refused>> {
        self.accept_at(token, Instant::now())
    }

    fn accept_at(&self, token: &str, now: Instant) -> io::Result<Result<Arc<Session>, Refused>> {
        let mut inner = locked(&self.0);
        inner.forget(now);
        // All of them, so that the time does not tell which one it was.
        let known: Vec<bool> = inner.invitations.iter().map(|(secret, _)| secret.is(token)).collect();
        let Some(at) = known.iter().position(|known| *known) else {
            if inner.guesses.len() >= MOST_GUESSES {
                return Ok(Err(Refused::TooMany));
            }
            inner.guesses.push_back(now);
            return Ok(Err(Refused::Unknown));
        };
        let session = Arc::new(Session::new(now)?);
        inner.invitations.remove(at);
        inner.sessions.push_back(Arc::clone(&session));
        if inner.sessions.len() > MOST
            && let Some(oldest) = inner.sessions.pop_front()
        {
            oldest.ended.cancel();
        }
        Ok(Ok(session))
    }

    /// Returns the session of this path and one of these cookies.
    pub(crate) fn find(&self, prefix: &str, cookies: &[&str]) -> Option<Arc<Session>> {
        self.find_at(prefix, cookies, Instant::now())
    }

    fn find_at(&self, prefix: &str, cookies: &[&str], now: Instant) -> Option<Arc<Session>> {
        let mut inner = locked(&self.0);
        inner.forget(now);
        let has_cookie = |session: &Session| cookies.iter().any(|cookie| session.cookie.is(cookie));
        inner.sessions.iter().find(|session| session.prefix.is(prefix) && has_cookie(session)).cloned()
    }

    /// Ends a session.
    pub(crate) fn end(&self, session: &Session) {
        locked(&self.0).sessions.retain(|known| !known.prefix.is(session.prefix.reveal()));
        session.ended.cancel();
    }
}

impl Inner {
    /// Forgets what is over.
    fn forget(&mut self, now: Instant) {
        self.sessions.retain(|session| session.ends > now);
        self.invitations.retain(|(_, ends)| *ends > now);
        self.guesses.retain(|guess| now.saturating_duration_since(*guess) < GUESS_TIME);
    }
}

/// What is locked is whole at every moment, whoever panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(sessions: &Sessions, now: Instant) -> Arc<Session> {
        let token = sessions.invite_at(now).unwrap();
        sessions.accept_at(&token, now).unwrap().unwrap()
    }

    #[test]
    fn an_invitation_is_good_once_and_not_for_long() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.invite_at(now).unwrap();
        assert!(sessions.accept_at(&token, now).unwrap().is_ok());
        assert_eq!(sessions.accept_at(&token, now).unwrap().unwrap_err(), Refused::Unknown);
        let token = sessions.invite_at(now).unwrap();
        let late = now + INVITATION_TIME;
        assert_eq!(sessions.accept_at(&token, late).unwrap().unwrap_err(), Refused::Unknown);
    }

    #[test]
    fn after_many_guesses_others_are_told_to_wait_and_an_invitation_is_good_all_the_same() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let token = sessions.invite_at(now).unwrap();
        for _ in 0..MOST_GUESSES {
            assert_eq!(sessions.accept_at("guess", now).unwrap().unwrap_err(), Refused::Unknown);
        }
        assert_eq!(sessions.accept_at("guess", now).unwrap().unwrap_err(), Refused::TooMany);
        assert!(sessions.accept_at(&token, now).unwrap().is_ok());
        assert_eq!(sessions.accept_at("guess", now).unwrap().unwrap_err(), Refused::TooMany);
        assert_eq!(sessions.accept_at("guess", now + GUESS_TIME).unwrap().unwrap_err(), Refused::Unknown);
    }

    #[test]
    fn a_session_needs_its_path_and_its_cookie_and_ends_after_a_day() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (one, other) = (let_in(&sessions, now), let_in(&sessions, now));
        let (prefix, cookie) = (one.prefix.reveal(), one.cookie.reveal());
        assert!(sessions.find_at(prefix, &["x", cookie], now).is_some());
        assert!(sessions.find_at(prefix, &[], now).is_none());
        assert!(sessions.find_at(prefix, &[other.cookie.reveal()], now).is_none());
        assert!(sessions.find_at(other.prefix.reveal(), &[cookie], now).is_none());
        assert!(sessions.find_at(prefix, &[cookie], now + SESSION_TIME).is_none());
        // Time does not go back; that was the end of it.
        assert!(sessions.find_at(prefix, &[cookie], now).is_none());
    }

    #[test]
    fn what_is_to_be_said_is_said_once() {
        let session = Session::new(Instant::now()).unwrap();
        let number = session.leave("done".to_owned());
        assert_eq!(session.take(number).as_deref(), Some("done"));
        assert_eq!(session.take(number), None);
    }
}
