//! The catalog, as it is shown.

use std::collections::BTreeSet;
use std::fmt::Display;

use banger_core::work::Unwatched;
use banger_types::ApiError;
use banger_types::catalog::{Catalog, CatalogEntry};

use super::Artifacts;
use crate::catalog::{Entries, Entry};

impl Artifacts {
    /// Returns what images and kernels can be had by name.
    pub(crate) async fn catalog(&self) -> Result<Catalog, ApiError> {
        let catalog = self.catalogs.read(&Unwatched).await?;
        let problems = catalog.problems.clone();
        let images = self.images().await?.into_iter().map(|image| image.name).collect();
        let kernels = self.kernels().await?.into_iter().map(|kernel| kernel.name).collect();
        let settings = self.context().settings.last();
        let defaults = &settings.configuration.vm;
        let (mut known_images, known_kernels) = catalog.into_entries();
        for entry in known_images.values_mut() {
            entry.kernel.get_or_insert_with(|| defaults.kernel.clone());
        }
        Ok(Catalog {
            images: shown(known_images, &defaults.image, &images),
            kernels: shown(known_kernels, &defaults.kernel, &kernels),
            problems,
        })
    }
}

fn shown<S: Display>(known: Entries<S>, default: &str, here: &BTreeSet<String>) -> Vec<CatalogEntry> {
    let entry = |(name, entry): (String, Entry<S>)| CatalogEntry {
        is_default: name == default,
        is_here: here.contains(&name),
        description: entry.description,
        kernel: entry.kernel,
        sources: entry.sources.iter().map(ToString::to_string).collect(),
        origin: entry.origin,
        name,
    };
    known.into_iter().map(entry).collect()
}
