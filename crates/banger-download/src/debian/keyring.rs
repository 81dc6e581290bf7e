//! The keys that sign a Debian archive, and what they have signed.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use fs_err as fs;
use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, PublicSubkey, Signature, SignatureType};
use pgp::types::{KeyDetails as _, Tag};

/// By how much the clock of whoever signed may be ahead of this host's.
pub(super) const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// It cannot be read.
    #[error("cannot read Debian's keys in '{}'", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It holds no key.
    #[error("there are no OpenPGP keys in '{}'", path.display())]
    NoKeys {
        /// The file.
        path: PathBuf,
    },
}

/// Why a signed text is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is no signed text at all.
    #[error("it is no signed text")]
    NotSigned,
    /// None of the keys that signed it is known.
    #[error("it is signed by none of Debian's keys that are known here, but by {0}")]
    UnknownKey(String),
    /// One of the keys should have signed it, and has not signed this.
    #[error("it has been changed: the signature by {0} is of another text")]
    Changed(String),
    /// A key is too old, or was taken back.
    #[error("it is signed by {key}, which {problem}")]
    BadKey {
        /// The key's fingerprint.
        key: String,
        /// What is wrong with it, as a clause.
        problem: &'static str,
    },
    /// A signature does not count.
    #[error("the signature by {key} {problem}")]
    BadSignature {
        /// The key's fingerprint.
        key: String,
        /// What is wrong with it, as a clause.
        problem: &'static str,
    },
}

/// Keys of a Debian archive.
#[derive(Debug)]
pub(super) struct Keyring {
    keys: Vec<SigningKey>,
}

/// A key that may sign, by the word of the primary key that it belongs to (RFC 9580, section 10.1.1).
#[derive(Debug)]
struct SigningKey {
    key: Key,
    /// When its owner has meant it to end.
    expires: Option<SystemTime>,
    is_revoked: bool,
}

#[derive(Debug)]
enum Key {
    Primary(PublicKey),
    Subkey(PublicSubkey),
}

/// The most lines of a signed text: Debian's largest have a few thousand.
const MOST_LINES: usize = 10_000;

/// The most signatures that are looked at: Debian's have two or three.
const MOST_SIGNATURES: usize = 16;

impl Keyring {
    /// Reads a keyring: `OpenPGP` keys one after the other, as `/usr/share/keyrings` has them. What is of a kind that is not
    /// known is left out.
    pub(super) fn read(path: &Path) -> Result<Self, KeyringError> {
        let bytes = fs::read(path).map_err(|source| KeyringError::Read { path: path.to_owned(), source })?;
        let certificates = SignedPublicKey::from_bytes_many(&bytes[..]).into_iter().flatten();
        let keys: Vec<_> = certificates.filter_map(Result::ok).flat_map(signing_keys).collect();
        if keys.is_empty() { Err(KeyringError::NoKeys { path: path.to_owned() }) } else { Ok(Self { keys }) }
    }

    /// Returns what was signed of a text with signatures in it (RFC 9580, section 7), if one of them is good. As with
    /// `gpgv`, others may be by keys that are not known here: an archive is signed by those of two releases. Nothing
    /// around the signed text is returned.
    pub(super) fn verify(&self, signed: &[u8], now: SystemTime) -> Result<String, SignatureError> {
        // Reading one takes a time that grows with its lines times its length, before anything in it is believed.
        if signed.split(|byte| *byte == b'\n').count() > MOST_LINES {
            return Err(SignatureError::NotSigned);
        }
        let message = CleartextSignedMessage::from_armor(signed);
        let (message, _) = message.map_err(|_| SignatureError::NotSigned)?;
        let text = message.signed_text();
        let mut reason = SignatureError::NotSigned;
        for signature in message.signatures().iter().take(MOST_SIGNATURES) {
            match self.check(signature, &text, now) {
                // Lines of what is signed end with CR and LF; those of control files with LF.
                Ok(()) => return Ok(text.replace("\r\n", "\n")),
                // What is wrong with one by a key that is known says more than that another is not known.
                Err(SignatureError::UnknownKey(_)) if reason != SignatureError::NotSigned => {}
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    fn check(&self, signature: &Signature, text: &str, now: SystemTime) -> Result<(), SignatureError> {
        let Some(signer) = self.keys.iter().find(|key| key.may_have_made(signature)) else {
            return Err(SignatureError::UnknownKey(issuer(signature)));
        };
        let key = signer.fingerprint();
        signer.verify(signature, text).map_err(|_| SignatureError::Changed(key.clone()))?;
        if let Some(problem) = signer.problem(now) {
            return Err(SignatureError::BadKey { key, problem });
        }
        match problem(signature, now) {
            Some(problem) => Err(SignatureError::BadSignature { key, problem }),
            None => Ok(()),
        }
    }
}

impl SigningKey {
    fn may_have_made(&self, signature: &Signature) -> bool {
        let (fingerprint, id) = match &self.key {
            Key::Primary(key) => (key.fingerprint(), key.legacy_key_id()),
            Key::Subkey(key) => (key.fingerprint(), key.legacy_key_id()),
        };
        match &*signature.issuer_fingerprint() {
            [] => signature.issuer_key_id().contains(&&id),
            issuers => issuers.contains(&&fingerprint),
        }
    }

    fn fingerprint(&self) -> String {
        match &self.key {
            Key::Primary(key) => key.fingerprint(),
            Key::Subkey(key) => key.fingerprint(),
        }
        .to_string()
    }

    fn verify(&self, signature: &Signature, text: &str) -> pgp::errors::Result<()> {
        match &self.key {
            Key::Primary(key) => signature.verify(key, text.as_bytes()),
            Key::Subkey(key) => signature.verify(key, text.as_bytes()),
        }
    }

    /// Returns why nothing that it signs counts, as a clause about it.
    fn problem(&self, now: SystemTime) -> Option<&'static str> {
        if self.is_revoked {
            Some("was taken back")
        } else if self.expires.is_some_and(|expires| expires <= now) {
            Some("has expired")
        } else {
            None
        }
    }
}

/// Returns who says that a signature is theirs.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint.or_else(id).unwrap_or_else(|| "nobody".to_owned())
}

/// Returns why a signature does not count although its key has made it, as a clause about it.
fn problem(signature: &Signature, now: SystemTime) -> Option<&'static str> {
    let is_of_text = matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary));
    let is_strong = matches!(
        signature.hash_alg(),
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
    );
    let Some(created) = signature.created().map(SystemTime::from) else { return Some("has no date") };
    if !is_of_text {
        Some("is not one of a text")
    } else if !is_strong {
        Some("is by a hash that is weaker than SHA-256")
    } else if created > now + CLOCK_SKEW {
        Some("is from the future: look at this host's clock")
    } else if end(created, signature.signature_expiration_time()).is_some_and(|end| end <= now) {
        Some("has expired")
    } else {
        None
    }
}

/// Returns when something ends that lasts so long; zero is for ever (RFC 9580, sections 5.2.3.13 and 5.2.3.18).
fn end(begin: SystemTime, lasts: Option<pgp::types::Duration>) -> Option<SystemTime> {
    let lasts = lasts.map(Duration::from).filter(|lasts| !lasts.is_zero())?;
    Some(begin + lasts)
}

/// Returns the keys of a certificate that may sign.
fn signing_keys(certificate: SignedPublicKey) -> Vec<SigningKey> {
    let SignedPublicKey { primary_key, details, public_subkeys } = certificate;
    // What the owner says of it: on it, or on the names that it goes by.
    let direct = details.direct_signatures.iter().filter(|it| it.verify_key(&primary_key).is_ok());
    let names = details.users.iter().flat_map(|user| {
        let is_own = |it: &&Signature| it.verify_certification(&primary_key, Tag::UserId, &user.id).is_ok();
        user.signatures.iter().filter(is_own)
    });
    let Some(newest) = direct.chain(names).max_by_key(|it| it.created().map(SystemTime::from)) else {
        return Vec::new();
    };
    let expires = end(primary_key.created_at().into(), newest.key_expiration_time());
    // Whoever could add one to a local file could do worse, so that none is looked at more closely.
    let is_revoked = !details.revocation_signatures.is_empty();
    let mut keys: Vec<_> = public_subkeys
        .into_iter()
        .filter_map(|subkey| {
            let binding = binding(&primary_key, &subkey)?;
            let own_end = end(subkey.key.created_at().into(), binding.key_expiration_time());
            let revoked = |it: &Signature| it.typ() == Some(SignatureType::SubkeyRevocation);
            Some(SigningKey {
                expires: [own_end, expires].into_iter().flatten().min(),
                is_revoked: is_revoked || subkey.signatures.iter().any(revoked),
                key: Key::Subkey(subkey.key),
            })
        })
        .collect();
    if newest.key_flags().sign() {
        keys.push(SigningKey { key: Key::Primary(primary_key), expires, is_revoked });
    }
    keys
}

/// Returns the newest signature by which a primary key says that a subkey may sign for it, and the subkey that it wants to.
fn binding<'a>(primary: &PublicKey, subkey: &'a SignedPublicSubKey) -> Option<&'a Signature> {
    let bindings = subkey.signatures.iter().filter(|it| it.typ() == Some(SignatureType::SubkeyBinding));
    let bindings = bindings.filter(|it| it.verify_subkey_binding(primary, &subkey.key).is_ok());
    let newest = bindings.max_by_key(|it| it.created().map(SystemTime::from))?;
    let back = newest.embedded_signature()?;
    (newest.key_flags().sign() && back.verify_primary_key_binding(&subkey.key, primary).is_ok())
        .then_some(newest)
}
