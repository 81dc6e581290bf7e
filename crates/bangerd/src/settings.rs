//! The settings in force: read anew when their file has changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use banger_configuration::{Applies, Effective, KEYS};
use banger_types::ApiError;
use banger_types::location::Locations;
use banger_types::setting::Setting;

/// The settings of a daemon, from its start on.
#[derive(Debug)]
pub(crate) struct LiveSettings {
    locations: Locations,
    at_start: Arc<Effective>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    version: Version,
    /// What the file said when it could be read last.
    effective: Arc<Effective>,
    /// Why it cannot be read now.
    mistake: Option<ApiError>,
}

/// What tells one state of a file from the next: its number, its size, and when its content and its place changed.
type Version = Option<(u64, u64, (i64, i64), (i64, i64))>;

impl LiveSettings {
    /// Reads them for the first time.
    pub(crate) fn read(locations: &Locations) -> Result<Self, ApiError> {
        // Before the file, so that what is written meanwhile is read the next time.
        let version = version_of(locations);
        let effective = Arc::new(read(locations)?);
        let known = Known { version, effective: Arc::clone(&effective), mistake: None };
        Ok(Self { locations: locations.clone(), at_start: effective, known: Mutex::new(known) })
    }

    /// Returns what the file says now. What is made of it is not made while the file has a mistake: it would be made of something else
    /// than what its owner wrote.
    pub(crate) fn current(&self) -> Result<Arc<Effective>, ApiError> {
        let known = self.refreshed();
        match &known.mistake {
            Some(mistake) => Err(mistake.clone()),
            None => Ok(Arc::clone(&known.effective)),
        }
    }

    /// Returns what the file said when it could be read last, for what goes on in any case.
    pub(crate) fn last(&self) -> Arc<Effective> {
        Arc::clone(&self.refreshed().effective)
    }

    /// Returns how long a guest may take to its first session.
    pub(crate) fn boot_limit(&self) -> Duration {
        self.last().configuration.vm.boot_timeout
    }

    /// Returns each setting as it is in force, and what the next start makes of it.
    pub(crate) fn shown(&self) -> Result<Vec<Setting>, ApiError> {
        let current = self.current()?;
        let (waiting, mut shown): (Vec<_>, Vec<_>) =
            current.settings.iter().cloned().partition(|setting| waits_for_restart(&setting.name));
        let begun = self.at_start.settings.iter().filter(|setting| waits_for_restart(&setting.name));
        shown.splice(0..0, begun_and_next(begun.cloned().collect(), waiting));
        Ok(shown)
    }

    fn refreshed(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version_of(&self.locations);
        if version != known.version {
            known.version = version;
            match read(&self.locations) {
                Ok(effective) => {
                    tracing::info!("the configuration file has changed, and is in force");
                    known.effective = Arc::new(effective);
                    known.mistake = None;
                }
                Err(error) => {
                    tracing::warn!(%error, why = ?error.why, "the configuration file has changed");
                    known.mistake = Some(error);
                }
            }
        }
        known
    }
}

fn read(locations: &Locations) -> Result<Effective, ApiError> {
    Effective::read(locations, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn version_of(locations: &Locations) -> Version {
    let file: &Path = locations.configuration.as_deref()?;
    let metadata = fs_err::metadata(file).ok()?;
    let content = (metadata.mtime(), metadata.mtime_nsec());
    Some((metadata.ino(), metadata.size(), content, (metadata.ctime(), metadata.ctime_nsec())))
}

/// Returns settings as they were when the daemon began, each with what it becomes; then those that come to them. Of a name that several
/// have, the first goes with the first.
fn begun_and_next(begun: Vec<Setting>, mut next: Vec<Setting>) -> Vec<Setting> {
    let mut shown: Vec<Setting> = begun
        .into_iter()
        .map(|setting| {
            let at = next.iter().position(|it| it.name == setting.name);
            let becomes = at.map(|at| next.remove(at).value).unwrap_or_default();
            let at_restart = (becomes != setting.value).then_some(becomes);
            Setting { at_restart, ..setting }
        })
        .collect();
    let new = |setting: Setting| Setting { at_restart: Some(setting.value), value: String::new(), ..setting };
    shown.extend(next.into_iter().map(new));
    shown
}

/// Whether a setting is what it was when the daemon began. What only the environment says is, too.
fn waits_for_restart(name: &str) -> bool {
    KEYS.iter().find(|key| key.name == name).is_some_and(|key| key.applies == Applies::AtRestart)
}

#[cfg(test)]
mod tests {
    use banger_image::source::BuildOptions;

    use super::*;

    fn settings(text: &str) -> (tempfile::TempDir, LiveSettings) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let locations = Locations {
            data: directory.path().to_owned(),
            configuration: Some(file),
            socket: directory.path().join("socket"),
        };
        let settings = LiveSettings::read(&locations).unwrap();
        (directory, settings)
    }

    #[test]
    fn what_changes_is_in_force_at_once_or_after_a_restart_and_says_so() {
        let (directory, settings) = settings("[vm]\nvcpus = 1\n");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[vm]\nvcpus = 3\n[operations]\nat_once = 2\n").unwrap();
        assert_eq!(settings.current().unwrap().configuration.vm.vcpus, 3);
        let shown = settings.shown().unwrap();
        let of = |name: &str| shown.iter().find(|setting| setting.name == name).unwrap();
        assert_eq!((of("vm.vcpus").value.as_str(), &of("vm.vcpus").at_restart), ("3", &None));
        let at_once = of("operations.at_once");
        assert_eq!((at_once.value.as_str(), at_once.at_restart.as_deref()), ("16", Some("2")));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(settings.current().unwrap().configuration.vm.vcpus, 2, "as if there never was one");
    }

    #[test]
    fn a_mistake_is_told_and_what_goes_on_goes_on() {
        let (directory, settings) = settings("[vm]\nvcpus = 1\nboot_timeout = \"7s\"\n");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[vm]\nvcpu = 3\n").unwrap();
        let error = settings.current().unwrap_err();
        assert!(error.why[0].ends_with("line 2: there is no setting 'vm.vcpu'"), "{:?}", error.why);
        assert_eq!(settings.last().configuration.vm.vcpus, 1);
        assert_eq!(settings.boot_limit(), Duration::from_secs(7));
        std::fs::write(&file, "[vm]\nvcpus = 3\n").unwrap();
        assert_eq!(settings.current().unwrap().configuration.vm.vcpus, 3);
    }

    #[test]
    fn what_is_not_set_bounds_images_as_those_who_make_them_do() {
        let image = banger_configuration::Configuration::default().image;
        assert_eq!(image.largest.bytes(), BuildOptions::LARGEST);
        assert_eq!(image.most_entries, BuildOptions::MOST_ENTRIES);
    }
}
