//! How OpenSSH's programs reach the VMs: a file for an `Include` line of `ssh_config(5)`, kept up to date.
//!
//! Each VM is a host called `NAME.banger`, with a block of its own, so that programs which list hosts show it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_core::store::VmRecord;
use banger_types::image::Image;
use banger_types::location::variable;
use banger_types::vm::SshConfiguration;
use banger_types::{ApiError, ImageId};

use crate::failure::failed;
use crate::layout::{Layout, vm_file};
use crate::vm::Context;

/// What the names of VMs end with, as hosts of SSH.
const DOMAIN: &str = "banger";

/// The file, and whatever is needed to write it.
pub(crate) struct SshConfig {
    /// `banger`, which OpenSSH starts as its proxy.
    client: PathBuf,
    /// The daemon's socket: the proxy may be started with any environment.
    socket: PathBuf,
    /// One at a time, so that the last one to write has seen the newest VMs.
    turn: tokio::sync::Mutex<()>,
}

impl SshConfig {
    pub(crate) fn new(client: PathBuf, socket: PathBuf) -> Self {
        Self { client, socket, turn: tokio::sync::Mutex::default() }
    }

    /// Writes the file anew. A failure is logged: no VM is worse off for it.
    pub(crate) async fn update(&self, context: &Arc<Context>) {
        let _turn = self.turn.lock().await;
        let written = match self.text(context).await {
            Ok(text) => write(&context.layout, &text.configuration, &text.known_hosts)
                .map_err(|error| failed("cannot write the configuration for SSH", &error)),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, why = ?error.why, "ssh configuration");
        }
    }

    /// Returns the file and what is in it.
    pub(crate) async fn show(&self, context: &Arc<Context>) -> Result<SshConfiguration, ApiError> {
        let text = self.text(context).await?.configuration;
        Ok(SshConfiguration { file: context.layout.ssh_configuration(), text })
    }

    async fn text(&self, context: &Arc<Context>) -> Result<Text, ApiError> {
        let (vms, images) =
            context.store("list VMs and images", |store| Ok((store.vms()?, store.images()?))).await?;
        let text = self.render(&context.layout, &vms, &images);
        text.map_err(|error| failed("cannot write the configuration for SSH", &error))
    }

    fn render(&self, layout: &Layout, vms: &[VmRecord], images: &[Image]) -> Result<Text, Unquotable> {
        let mut text = Text {
            configuration: "# Written by bangerd whenever a VM is made, renamed or deleted.\n".to_owned(),
            known_hosts: String::new(),
        };
        let known_hosts = quoted(&layout.ssh_known_hosts())?;
        // A VM that is only just being made has no key yet.
        for vm in vms.iter().filter(|vm| !vm.host_public_key.is_empty()) {
            let host = format!("{}.{DOMAIN}", vm.name);
            let proxy = self.proxy(layout, vm)?;
            let identity = quoted(&layout.vm(&vm.id).join(vm_file::IDENTITY))?;
            let user = default_user(images, &vm.spec.image);
            // Writing to a string cannot fail.
            let _ = write!(
                text.configuration,
                "\nHost {host}\n    HostKeyAlias {host}\n    User {user}\n    ProxyCommand {proxy}\n    \
                 IdentityFile {identity}\n    IdentitiesOnly yes\n    UserKnownHostsFile {known_hosts}\n    \
                 GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n"
            );
            let _ = writeln!(text.known_hosts, "{host} {}", vm.host_public_key);
        }
        Ok(text)
    }

    /// The proxy's command line; OpenSSH gives it to the user's shell. By id, so that a later VM of the same name
    /// is never taken for this one.
    fn proxy(&self, layout: &Layout, vm: &VmRecord) -> Result<String, Unquotable> {
        let words = [
            "env".to_owned(),
            assignment(variable::DATA_DIRECTORY, layout.data())?,
            assignment(variable::SOCKET, &self.socket)?,
            shell_word(&self.client)?,
        ];
        Ok(format!("{} vm proxy {}", words.join(" "), vm.id))
    }
}

struct Text {
    configuration: String,
    known_hosts: String,
}

/// A path that cannot be said in a configuration of OpenSSH's.
#[derive(Debug, thiserror::Error)]
#[error("the path {0:?} cannot be written in a configuration of OpenSSH's")]
struct Unquotable(PathBuf);

fn text_of(path: &Path) -> Result<&str, Unquotable> {
    let bad = |text: &&str| text.contains(|c: char| c.is_control() || c == '"' || c == '\'' || c == '\\');
    path.to_str().filter(|text| !bad(text)).ok_or_else(|| Unquotable(path.to_owned()))
}

/// A path as an argument: `%` begins a token there (`ssh_config(5)`, TOKENS).
fn quoted(path: &Path) -> Result<String, Unquotable> {
    Ok(format!("\"{}\"", text_of(path)?.replace('%', "%%")))
}

fn shell_word(path: &Path) -> Result<String, Unquotable> {
    Ok(format!("'{}'", text_of(path)?.replace('%', "%%")))
}

fn assignment(name: &str, path: &Path) -> Result<String, Unquotable> {
    Ok(format!("{name}={}", shell_word(path)?))
}

/// Returns the user that a session in a VM of this image is, when it names none.
pub(crate) fn default_user(images: &[Image], image: &ImageId) -> String {
    let image = images.iter().find(|candidate| candidate.id == *image);
    let user = image.map(|image| image.config.user.as_str()).unwrap_or_default();
    if user.is_empty() { "root".to_owned() } else { user.to_owned() }
}

/// Puts both files in their places. Nobody ever sees half of one; after a crash they are written anew.
fn write(layout: &Layout, configuration: &str, known_hosts: &str) -> io::Result<()> {
    // Known hosts first: a host that is named is one whose key is known.
    crate::vm::replace_private(&layout.ssh_known_hosts(), known_hosts.as_bytes())?;
    crate::vm::replace_private(&layout.ssh_configuration(), configuration.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_whoever_reads_them() {
        assert_eq!(quoted(Path::new("/a b/100%")).unwrap(), "\"/a b/100%%\"");
        assert_eq!(shell_word(Path::new("/a $b")).unwrap(), "'/a $b'");
        for bad in ["/a\"b", "/a'b", "/a\nb", "/a\\b"] {
            assert!(quoted(Path::new(bad)).is_err(), "{bad}");
            assert!(shell_word(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
