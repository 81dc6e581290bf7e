//! The web console, as the daemon tells of it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the web console listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebListen {
    /// Nowhere: there is none.
    Off,
    /// At this address of loopback, or at the next port that is free. Port 0 stands for any that is free.
    At(SocketAddr),
}

impl Default for WebListen {
    fn default() -> Self {
        Self::At(SocketAddr::from((Ipv4Addr::LOCALHOST, 7777)))
    }
}

impl fmt::Display for WebListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Why the web console cannot listen there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebListenError {
    /// It is neither an address nor `off`.
    #[error("'{0}' is not ADDRESS:PORT, as 127.0.0.1:7777, nor off")]
    Syntax(String),
    /// Others could reach it.
    #[error(
        "'{0}' is not a loopback address: whoever reaches the web console can ask for a session, and what is said there can be \
         read on the way; write 127.0.0.1 or [::1], and reach it from elsewhere through ssh -L"
    )]
    Open(SocketAddr),
}

impl FromStr for WebListen {
    type Err = WebListenError;

    fn from_str(text: &str) -> Result<Self, WebListenError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let text = text.replacen("localhost:", "127.0.0.1:", 1);
        let address: SocketAddr = text.parse().map_err(|_| WebListenError::Syntax(text))?;
        if address.ip().is_loopback() { Ok(Self::At(address)) } else { Err(WebListenError::Open(address)) }
    }
}

/// The web console of a daemon that has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WebConsole {
    /// Its address. It lets nobody in without a sign-in link.
    pub url: String,
    /// What its user should know of it, in a whole sentence: that another port was taken than the wanted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Answer to `POST /v1/system/sign-in-links`: an address that opens the web console, once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignInLink {
    /// The address. Whoever has it can sign in.
    pub url: String,
    /// When it stops being of use, if nobody has used it by then.
    pub expires_at: jiff::Timestamp,
}

impl fmt::Debug for SignInLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInLink").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for text in ["127.0.0.1:7777", "127.8.9.1:0", "[::1]:80", "off"] {
            assert_eq!(text.parse::<WebListen>().unwrap().to_string(), text);
        }
        assert_eq!("localhost:80".parse::<WebListen>().unwrap().to_string(), "127.0.0.1:80");
        for text in ["0.0.0.0:7777", "[::]:7777", "192.168.1.1:80", "[::ffff:127.0.0.1]:80"] {
            let error = text.parse::<WebListen>().unwrap_err();
            assert!(matches!(error, WebListenError::Open(_)), "{text}: {error}");
        }
        for text in ["", "on", "7777", "127.0.0.1", "example.org:80"] {
            let error = text.parse::<WebListen>().unwrap_err();
            assert!(matches!(error, WebListenError::Syntax(_)), "{text}: {error}");
        }
    }
}
