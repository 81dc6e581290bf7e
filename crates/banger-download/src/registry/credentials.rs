//! Where users keep what lets them in: the files of Docker, Podman and skopeo, and credential helpers.
//!
//! `~/.docker/config.json` (docker-login(1), "Credential stores" and "Credential helpers"), containers-auth.json(5), and
//! the protocol of docker-credential-helpers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::work::Work;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Credentials;

/// Most bytes of a file with credentials.
const LARGEST_FILE: u64 = 4 << 20;
/// What Docker calls its own registry in such files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user of a token that is good for others.
const TOKEN_USER: &str = "<token>";

/// Why credentials could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be understood.
    #[error("cannot understand {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// What it has of a registry is no credentials. They are not shown.
    #[error("{} has something for {registry} that is no name and password in base64", path.display())]
    NoCredentials {
        /// The file.
        path: PathBuf,
        /// The registry.
        registry: String,
    },
    /// A helper's name is no part of a program's name.
    #[error("{} names a credential helper '{helper}', which is no name of a program", path.display())]
    HelperName {
        /// The file.
        path: PathBuf,
        /// The name, or its beginning.
        helper: String,
    },
    /// A helper failed.
    #[error("the credential helper {helper} failed")]
    Helper {
        /// Its program.
        helper: String,
        /// Why.
        #[source]
        source: CommandError,
    },
    /// A helper's answer could not be understood. It is not shown.
    #[error("the credential helper {helper} answers what nobody understands")]
    Answer {
        /// Its program.
        helper: String,
    },
}

impl CredentialsError {
    /// Returns whether somebody's cancel is the reason.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Helper { source: CommandError::Cancelled(_), .. })
    }
}

/// Returns the files in which a user may have credentials, those that count more first.
pub fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = variable("HOME");
    let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
    let named = variable("REGISTRY_AUTH_FILE");
    let docker = variable("DOCKER_CONFIG").map(|directory| directory.join("config.json"));
    let candidates = [
        named,
        variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
        variable("XDG_CONFIG_HOME").map(|directory| directory.join("containers/auth.json")),
        in_home(".config/containers/auth.json"),
        docker.or_else(|| in_home(".docker/config.json")),
    ];
    candidates.into_iter().flatten().collect()
}

/// A file with credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    #[serde(rename = "auth")]
    pair: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Finds what lets the user into a repository. Blocks: a helper may ask somebody something.
pub fn find(
    files: &[PathBuf],
    registry: &str,
    repository: &str,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<Option<Credentials>, CredentialsError> {
    for path in files {
        let Some(file) = read(path)? else { continue };
        let keys = keys(registry, repository);
        let helper = keys.iter().find_map(|key| file.helpers.get(key)).filter(|helper| !helper.is_empty());
        if let Some(helper) = helper {
            let found = ask(path, helper, registry, commands, work)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let auth = keys.iter().find_map(|key| {
            let is_it = |name: &&String| normal(name) == *key;
            let name = file.auths.keys().find(is_it)?;
            file.auths.get(name)
        });
        let found = auth.map(|auth| credentials(path, registry, auth)).transpose()?.flatten();
        if found.is_some() {
            return Ok(found);
        }
        if !file.store.is_empty() {
            let found = ask(path, &file.store, registry, commands, work)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<File>, CredentialsError> {
    let read = |source| CredentialsError::Read { path: path.to_owned(), source };
    let bytes = match fs_err::metadata(path) {
        Ok(metadata) if metadata.len() > LARGEST_FILE => {
            return Err(read(std::io::Error::other("it is too large for a file with credentials")));
        }
        Ok(_) => fs_err::read(path).map_err(read)?,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(read(error)),
    };
    let malformed = |source| CredentialsError::Malformed { path: path.to_owned(), source };
    serde_json::from_slice(&bytes).map(Some).map_err(malformed)
}

/// Returns what a registry may be called in a file: with as much of the repository as there can be, down to none.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let whole = format!("{registry}/{repository}");
    let ends = whole.match_indices('/').map(|(at, _)| at).chain([whole.len()]).collect::<Vec<_>>();
    ends.into_iter().rev().map(|end| whole[..end].to_owned()).collect()
}

/// Returns a name in a file as [`keys`] has it: without a scheme, and without the versions of protocols that Docker
/// writes after it.
fn normal(name: &str) -> String {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    let name = name.strip_suffix("/v1").or_else(|| name.strip_suffix("/v2")).unwrap_or(name);
    match name {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

fn credentials(path: &Path, registry: &str, auth: &Auth) -> Result<Option<Credentials>, CredentialsError> {
    if !auth.identity_token.is_empty() {
        return Ok(Some(Credentials::IdentityToken(auth.identity_token.clone())));
    }
    if auth.pair.is_empty() {
        // With a store of its own, Docker leaves the registry's name here, and nothing else.
        let (user, password) = (auth.username.clone(), auth.password.clone());
        return Ok((!user.is_empty()).then_some(Credentials::Password { user, password }));
    }
    let decoded = STANDARD.decode(auth.pair.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (user, password) = pair.ok_or_else(|| CredentialsError::NoCredentials {
        path: path.to_owned(),
        registry: registry.to_owned(),
    })?;
    Ok(Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() }))
}

/// Asks a helper. One that knows nothing says so and fails.
fn ask(
    path: &Path,
    helper: &str,
    registry: &str,
    commands: &dyn Commands,
    work: &dyn Work,
) -> Result<Option<Credentials>, CredentialsError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    if !helper.bytes().all(plain) {
        let helper = helper.chars().take(80).collect();
        return Err(CredentialsError::HelperName { path: path.to_owned(), helper });
    }
    let program = format!("docker-credential-{helper}");
    let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
    let command = HostCommand::new(&program).argument("get").input(server);
    let mut output = Vec::new();
    let ran = commands.stream(&command, work, &mut |reader| {
        std::io::Read::read_to_end(&mut std::io::Read::take(reader, LARGEST_FILE), &mut output)?;
        Ok(())
    });
    if let Err(source) = ran {
        // docker-credential-helpers, `credentials not found in native keychain`.
        let knows_nothing = String::from_utf8_lossy(&output).contains("credentials not found");
        return if knows_nothing {
            Ok(None)
        } else {
            Err(CredentialsError::Helper { helper: program, source })
        };
    }
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|_| CredentialsError::Answer { helper: program })?;
    Ok(match (answer.username.as_str(), answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (TOKEN_USER, token) => Some(Credentials::IdentityToken(token)),
        (user, password) => Some(Credentials::Password { user: user.to_owned(), password }),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Mutex;

    use banger_core::command::Consumer;
    use banger_core::work::Unwatched;

    use super::*;

    /// A fake of the port: helpers that this host does not have.
    #[derive(Default)]
    struct Helpers {
        answer: &'static str,
        fails: bool,
        asked: Mutex<Vec<HostCommand>>,
    }

    impl Commands for Helpers {
        fn run(&self, _: &HostCommand, _: &dyn Work) -> Result<Vec<u8>, CommandError> {
            unreachable!("helpers are streamed")
        }

        fn stream(
            &self,
            command: &HostCommand,
            _: &dyn Work,
            consume: Consumer<'_>,
        ) -> Result<(), CommandError> {
            self.asked.lock().unwrap().push(command.clone());
            consume(&mut self.answer.as_bytes().by_ref()).unwrap();
            let (command, status) = (command.to_string(), "exit code 1".to_owned());
            if self.fails {
                Err(CommandError::Failed { command, status, stderr: String::new() })
            } else {
                Ok(())
            }
        }

        fn find(&self, _: &str) -> Option<PathBuf> {
            None
        }
    }

    fn password(user: &str, password: &str) -> Credentials {
        Credentials::Password { user: user.to_owned(), password: password.to_owned() }
    }

    fn found(file: &str, registry: &str, helpers: &Helpers) -> Result<Option<Credentials>, CredentialsError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, file).unwrap();
        find(&[directory.path().join("none.json"), path], registry, "team/tool", helpers, &Unwatched)
    }

    #[test]
    fn files_say_who_asks() {
        let file = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnBhc3M6d29yZA=="},
            "quay.io": {"auth": "YW55OmJvZHk="},
            "quay.io/team": {"auth": "dGVhbTptYXRl"},
            "https://old.example/v2/": {"username": "u", "password": "p"},
            "token.example": {"auth": "", "identitytoken": "t"},
            "bad.example": {"auth": "!"},
            "empty.example": {}
        }, "other": 7}"#;
        let found = |registry| found(file, registry, &Helpers::default());
        assert_eq!(found("docker.io").unwrap(), Some(password("hub", "pass:word")));
        assert_eq!(found("quay.io").unwrap(), Some(password("team", "mate")), "the longest name counts");
        assert_eq!(found("old.example").unwrap(), Some(password("u", "p")));
        assert_eq!(found("token.example").unwrap(), Some(Credentials::IdentityToken("t".to_owned())));
        assert_eq!(found("empty.example").unwrap(), None);
        assert_eq!(found("unknown.example").unwrap(), None);
        let error = found("bad.example").unwrap_err().to_string();
        assert!(
            error.ends_with("has something for bad.example that is no name and password in base64"),
            "{error}"
        );
    }

    #[test]
    fn helpers_are_asked() {
        let file = r#"{"credHelpers": {"quay.io": "mine"}, "credsStore": "all", "auths": {"quay.io": {}}}"#;
        let helpers =
            Helpers { answer: r#"{"ServerURL":"x","Username":"u","Secret":"s"}"#, ..Helpers::default() };
        assert_eq!(found(file, "quay.io", &helpers).unwrap(), Some(password("u", "s")));
        assert_eq!(found(file, "docker.io", &helpers).unwrap(), Some(password("u", "s")));
        let asked = helpers.asked.lock().unwrap();
        let of =
            |at: usize| (asked[at].program.as_str(), String::from_utf8(asked[at].input.clone()).unwrap());
        assert_eq!(of(0), ("docker-credential-mine", "quay.io".to_owned()));
        assert_eq!(of(1), ("docker-credential-all", "https://index.docker.io/v1/".to_owned()));

        let token = Helpers { answer: r#"{"Username":"<token>","Secret":"s"}"#, ..Helpers::default() };
        assert_eq!(found(file, "quay.io", &token).unwrap(), Some(Credentials::IdentityToken("s".to_owned())));
        let nothing = Helpers {
            answer: "credentials not found in native keychain\n",
            fails: true,
            ..Helpers::default()
        };
        assert_eq!(found(file, "quay.io", &nothing).unwrap(), None);
        let broken = Helpers { answer: "secret words", fails: true, ..Helpers::default() };
        assert!(matches!(found(file, "quay.io", &broken), Err(CredentialsError::Helper { .. })));
        let garbled = Helpers { answer: "secret words", ..Helpers::default() };
        let error = found(file, "quay.io", &garbled).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        let path = r#"{"credsStore": "../../tmp/evil"}"#;
        assert!(matches!(found(path, "quay.io", &garbled), Err(CredentialsError::HelperName { .. })));
        assert!(matches!(found("[", "quay.io", &garbled), Err(CredentialsError::Malformed { .. })));
    }

    #[test]
    fn a_file_that_is_named_counts_most() {
        let variables = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/me")),
            "REGISTRY_AUTH_FILE" => Some(PathBuf::from("/secrets/auth.json")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/7")),
            _ => None,
        };
        let expected = [
            "/secrets/auth.json",
            "/run/user/7/containers/auth.json",
            "/home/me/.config/containers/auth.json",
            "/home/me/.docker/config.json",
        ];
        assert_eq!(files(variables), expected.map(PathBuf::from));
    }
}
