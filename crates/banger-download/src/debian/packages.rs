//! Packages that an index names (Debian wiki, "`DebianRepository/Format`", "Packages Indices").

use std::io::BufRead;

use banger_types::digest::Digest;
use deb822_fast::{Paragraph, ParagraphReader};
use debversion::Version;

/// A package, as a signed index describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it depends on, as its author wrote it (Debian Policy 7.1).
    pub depends: String,
    /// Its archive's address.
    pub(super) archive: String,
    /// Where it is in the archive.
    pub(super) path: String,
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
}

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// It is none of fields.
    #[error("it is no index of packages")]
    Syntax(#[source] deb822_fast::Error),
    /// A package in it lacks something, or has it wrong.
    #[error("its package '{package}' has no field '{field}' that makes sense")]
    Field {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
    },
}

/// Returns the packages of an index whose names are wanted. Reads it to its end, and keeps nothing else.
pub(super) fn find(
    archive: &str,
    index: impl BufRead,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Package>, PackagesError> {
    let mut found = Vec::new();
    for fields in ParagraphReader::new(index) {
        let fields = fields.map_err(PackagesError::Syntax)?;
        if fields.get("Package").is_some_and(wanted) {
            found.push(package(archive, &fields)?);
        }
    }
    Ok(found)
}

fn package(archive: &str, fields: &Paragraph) -> Result<Package, PackagesError> {
    let name = fields.get("Package").unwrap_or_default().to_owned();
    let error = |field| PackagesError::Field { package: name.clone(), field };
    let get = |field| fields.get(field).ok_or_else(|| error(field));
    let path = get("Filename")?;
    Ok(Package {
        version: get("Version")?.parse().map_err(|_| error("Version"))?,
        depends: fields.get("Depends").unwrap_or_default().to_owned(),
        archive: archive.to_owned(),
        path: if is_plain(path) { path.to_owned() } else { return Err(error("Filename")) },
        digest: get("SHA256")?.parse().map_err(|_| error("SHA256"))?,
        size: get("Size")?.parse().map_err(|_| error("Size"))?,
        name: name.clone(),
    })
}

/// Whether a path leads down from where it begins, and stands in an address as it is.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~/".contains(&byte);
    let step = |name: &str| !matches!(name, "" | "." | "..");
    path.bytes().all(plain) && path.split('/').all(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\nDepends: linux-image-6.1.0-56-cloud-amd64 \
        (= 6.1.192-2)\nFilename: pool/main/l/linux-signed-amd64/linux-image-cloud-amd64_6.1.192-2_amd64.deb\nSize: 1480\n\
        Description: Linux for\n several clouds\n .\n Package: none\nSHA256: \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nPackage: other\nVersion: 1\n\n";

    fn of(index: &str) -> Result<Vec<Package>, PackagesError> {
        find("http://mirror/debian", index.as_bytes(), &|name| name == "linux-image-cloud-amd64")
    }

    #[test]
    fn only_what_is_wanted_has_to_make_sense() {
        let found = of(INDEX).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].version, "6.1.192-2".parse().unwrap());
        assert_eq!(found[0].size, 1480);
        assert!(found[0].depends.starts_with("linux-image-6.1.0-56-cloud-amd64 (= "));
        assert!(of("").unwrap().is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let why = |from: &str, to: &str| of(&INDEX.replace(from, to)).unwrap_err().to_string();
        let field =
            |field| format!("its package 'linux-image-cloud-amd64' has no field '{field}' that makes sense");
        assert_eq!(why("pool/main", "pool/../../main"), field("Filename"));
        assert_eq!(why("pool/main", "/main"), field("Filename"));
        assert_eq!(why("pool/main", "pool/main?x="), field("Filename"));
        assert_eq!(why("SHA256", "SHA1"), field("SHA256"));
        assert_eq!(why("1480", "-1"), field("Size"));
        assert_eq!(why("6.1.192-2\nDepends", "one two\nDepends"), field("Version"));
    }
}
