//! The file itself: read as a whole, and put in place as a whole.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use banger_types::{ApiError, ErrorKind};
use fs_err as fs;
use rustix::fs::FlockOperation;

use crate::configuration::Configuration;
use crate::mistake::{Mistake, parse};

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has a mistake.
    #[error("{path}, {mistake}", path = .path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        mistake: Mistake,
    },
}

impl From<ConfigurationError> for ApiError {
    fn from(error: ConfigurationError) -> Self {
        let told = Self::caused_by(ErrorKind::Usage, "cannot use the configuration file", &error);
        match error {
            ConfigurationError::Mistake { path, mistake: Mistake { allowed, .. } } => {
                let allowed = allowed.map(|allowed| format!("{allowed} ")).unwrap_or_default();
                told.fix(format!("{allowed}Correct {}, or remove it", path.display()))
            }
            ConfigurationError::Io(_) => told.fix("make it a file of yours that you can read, or remove it"),
        }
    }
}

/// A configuration file, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationFile {
    path: PathBuf,
}

impl ConfigurationFile {
    /// Returns the file at this path.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its text; nothing if there is no such file.
    pub fn text(&self) -> io::Result<String> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        }
    }

    /// Returns what it sets, and its text.
    pub fn read(&self) -> Result<(Configuration, String), ConfigurationError> {
        let text = self.text()?;
        let configuration = self.check(&text)?;
        Ok((configuration, text))
    }

    /// Reads a text as if it were in the file.
    pub fn check(&self, text: &str) -> Result<Configuration, ConfigurationError> {
        parse(text).map_err(|mistake| ConfigurationError::Mistake { path: self.path.clone(), mistake })
    }

    /// Puts in the file what `change` makes of its text. Whoever else changes it so waits meanwhile; who reads it sees all of the one
    /// or all of the other.
    pub fn change<E: From<io::Error>>(
        &self,
        change: impl FnOnce(&str) -> Result<String, E>,
    ) -> Result<(), E> {
        // Some keep it elsewhere and have a link to it here, which stays one.
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| where_it_leads(&self.path));
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let lock = fs::File::open(directory)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(io::Error::from)?;
        let text = self.text()?;
        let changed = change(&text)?;
        if changed != text {
            replace(&path, directory, &changed)?;
        }
        Ok(())
    }
}

/// Returns where a link leads to that leads to nothing yet; what is none leads to itself.
fn where_it_leads(path: &Path) -> PathBuf {
    match fs::read_link(path) {
        Ok(target) => path.parent().unwrap_or(Path::new("/")).join(target),
        Err(_) => path.to_owned(),
    }
}

fn replace(path: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o600, |before| before.permissions().mode() & 0o777);
    let mut file = tempfile::Builder::new().prefix(".config.toml.").tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_sets_nothing_and_is_made_with_what_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigurationFile::new(directory.path().join("banger/config.toml"));
        assert_eq!(file.read().unwrap(), (Configuration::default(), String::new()));
        file.change::<io::Error>(|text| Ok(format!("{text}[vm]\nvcpus = 3\n"))).unwrap();
        assert_eq!(file.read().unwrap().0.vm.vcpus, 3);
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = fs::read_dir(file.path().parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_link_stays_one_and_a_mode_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (kept, link) = (directory.path().join("kept.toml"), directory.path().join("config.toml"));
        fs::write(&kept, "[vm]\nvcpus = 1\n").unwrap();
        fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("kept.toml", &link).unwrap();
        let file = ConfigurationFile::new(link.clone());
        file.change::<io::Error>(|text| Ok(text.replace('1', "2"))).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "[vm]\nvcpus = 2\n");
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigurationFile::new(directory.path().join("config.toml"));
        fs::write(file.path(), "[vm]\n").unwrap();
        let failed = file.change(|_| Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert_eq!(file.text().unwrap(), "[vm]\n");
    }

    #[test]
    fn nothing_is_lost_when_two_change_it_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigurationFile::new(directory.path().join("config.toml"));
        let add = |text: &str| Ok::<_, io::Error>(format!("{text}#\n"));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..50).for_each(|_| file.change(add).unwrap()));
            }
        });
        assert_eq!(file.text().unwrap().lines().count(), 100);
    }

    #[test]
    fn a_mistake_is_told_with_the_file_the_line_and_what_is_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let file = ConfigurationFile::new(directory.path().join("config.toml"));
        fs::write(file.path(), "[vm]\nmemroy = \"1G\"\n").unwrap();
        let error = ApiError::from(file.read().unwrap_err());
        assert_eq!(error.kind, ErrorKind::Usage);
        assert_eq!(
            error.why,
            [format!("{}, line 2: there is no setting 'vm.memroy'", file.path().display())]
        );
        assert!(error.fix.unwrap().starts_with("Did you mean 'memory'? "));
    }
}
