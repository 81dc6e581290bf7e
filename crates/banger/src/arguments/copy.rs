//! `banger vm cp`, and how the two sides of a copy are written.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser as _};

/// Arguments of `vm cp`.
#[derive(Debug, Args)]
#[command(override_usage = "banger cp [OPTIONS] NAME:SRC... DST\n       banger cp [OPTIONS] SRC... NAME:DST")]
#[command(
    after_help = "NAME:PATH is a path in the VM; without a slash at its beginning it is relative to the \
                        user's home, and NAME: is the home itself. A path of this host with a colon in it is \
                        written ./a:b. Directories are copied with all that is in them, and SRC/. is what is in \
                        SRC. Links stay links, permissions and times are kept, and no file stands under its \
                        name before it is complete."
)]
pub struct CopyArguments {
    /// Copy what links lead to
    #[arg(short = 'L', long)]
    pub dereference: bool,
    /// User in the VM [default: the image's, else root]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Files and directories to copy, and where to; one side is NAME:PATH
    #[arg(required = true, num_args = 2.., value_names = ["SRC", "DST"], value_parser = place())]
    pub places: Vec<Place>,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path of this host.
    Host(PathBuf),
    /// A path in a VM; an empty one is the user's home.
    Vm {
        /// The VM's name or id.
        name: String,
        /// The path, any bytes.
        path: Vec<u8>,
    },
}

impl Place {
    /// Returns the place that `text` means: as for scp, what is before the first colon is a VM, unless
    /// it has a slash in it.
    fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        match bytes.iter().position(|&byte| byte == b':' || byte == b'/') {
            Some(at) if at > 0 && bytes[at] == b':' => Self::Vm {
                name: String::from_utf8_lossy(&bytes[..at]).into_owned(),
                path: bytes[at + 1..].to_vec(),
            },
            _ => Self::Host(OsString::from_vec(bytes.to_vec()).into()),
        }
    }
}

fn place() -> impl clap::builder::TypedValueParser<Value = Place> {
    OsStringValueParser::new().try_map(|text| Ok::<_, Infallible>(Place::parse(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_means_a_vm() {
        let vm = |name: &str, path: &[u8]| Place::Vm { name: name.to_owned(), path: path.to_vec() };
        for (text, place) in [
            (&b"web:/etc/hosts"[..], vm("web", b"/etc/hosts")),
            (b"web:", vm("web", b"")),
            (b"web:a:b", vm("web", b"a:b")),
            (b"web:\xff", vm("web", b"\xff")),
            (b"./a:b", Place::Host("./a:b".into())),
            (b"/a:b", Place::Host("/a:b".into())),
            (b":x", Place::Host(":x".into())),
            (b"x", Place::Host("x".into())),
            (b"\xfe", Place::Host(OsString::from_vec(b"\xfe".to_vec()).into())),
        ] {
            assert_eq!(Place::parse(OsStr::from_bytes(text)), place, "{place:?}");
        }
    }
}
