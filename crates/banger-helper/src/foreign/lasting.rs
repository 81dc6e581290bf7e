//! What other firewalls keep over a restart of the host. All else that this helper has made is gone then, and so is what it knew of it:
//! so that is written down where it lasts as well, and taken back at the first request that finds nobody whom it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Foreign, Terms};
use crate::directory::Directory;
use crate::error::Refusal;
use crate::state::State;

/// Where programs keep what lasts (file-hierarchy(7)).
const LIBRARY: &str = "/var/lib";
const TOLD: &str = "told.json";

/// Who was told what, by the numbers of the users whose networks it is about.
type Told = BTreeMap<u32, Entry>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    terms: Terms,
    whom: BTreeSet<Foreign>,
}

impl Entry {
    fn take_back(&self) -> Result<(), Refusal> {
        self.whom.iter().try_for_each(|foreign| foreign.dismiss(&self.terms))
    }
}

/// Notes what is about to be told of a user's network, and takes back what was told of it when it was another.
pub(super) fn note(uid: u32, terms: &Terms, whom: &BTreeSet<Foreign>) -> Result<(), Refusal> {
    if let Some(earlier) = read()?.and_then(|mut told| told.remove(&uid)).filter(|it| it.terms != *terms) {
        earlier.take_back()?;
        forget(uid)?;
    }
    let lasting: BTreeSet<Foreign> = whom.iter().copied().filter(|foreign| foreign.is_lasting()).collect();
    change(|told| {
        if !lasting.is_empty() {
            let new = || Entry { terms: terms.clone(), whom: BTreeSet::new() };
            told.entry(uid).or_insert_with(new).whom.extend(lasting);
        }
    })
}

/// Forgets what has been taken back.
pub(super) fn forget(uid: u32) -> Result<(), Refusal> {
    change(|told| drop(told.remove(&uid)))
}

/// Takes back what was told of networks that are there no more: the host was restarted since.
pub(crate) fn take_back(state: &State) -> Result<(), Refusal> {
    let Some(told) = read()? else { return Ok(()) };
    for (uid, entry) in told.iter().filter(|(uid, _)| !state.users.contains_key(uid)) {
        entry.take_back()?;
        forget(*uid)?;
    }
    Ok(())
}

fn read() -> Result<Option<Told>, Refusal> {
    // No directory is made to see that there is nothing in it.
    if !Path::new(LIBRARY).join("banger").join(TOLD).exists() {
        return Ok(None);
    }
    load(&Directory::open(Path::new(LIBRARY))?).map(Some)
}

fn load(directory: &Directory) -> Result<Told, Refusal> {
    let understand = |text: Vec<u8>| {
        serde_json::from_slice(&text)
            .map_err(|error| Refusal::file("cannot understand", directory.path().join(TOLD))(error.into()))
    };
    directory.read(TOLD)?.map(understand).transpose().map(Option::unwrap_or_default)
}

fn change(change: impl FnOnce(&mut Told)) -> Result<(), Refusal> {
    let before = read()?.unwrap_or_default();
    let mut told = before.clone();
    change(&mut told);
    if told == before {
        return Ok(());
    }
    let directory = Directory::open(Path::new(LIBRARY))?;
    if told.is_empty() {
        directory.remove(TOLD)?;
        // It stays if there is something of somebody's in it.
        let _ = std::fs::remove_dir(directory.path());
        return Ok(());
    }
    let text = serde_json::to_vec_pretty(&told)
        .map_err(|error| Refusal::file("cannot write", directory.path().join(TOLD))(error.into()))?;
    directory.replace(TOLD, &text)
}
