//! The catalog: images and kernels that can be had by name.

use serde::{Deserialize, Serialize};

/// What can be had by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Catalog {
    /// Images, ordered by name.
    pub images: Vec<CatalogEntry>,
    /// Kernels, ordered by name.
    pub kernels: Vec<CatalogEntry>,
    /// Why something that should be in it is not, as clauses.
    pub problems: Vec<String>,
}

/// An image or a kernel of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CatalogEntry {
    /// Its name.
    pub name: String,
    /// What it is, on one line.
    pub description: String,
    /// The kernel of an image's VMs, unless another one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Where it can be had, in the order in which that is tried.
    pub sources: Vec<String>,
    /// Who says so: `banger`, the path of the user's file, or the address of a list.
    pub origin: String,
    /// Whether it is what a VM gets for which none is named.
    pub is_default: bool,
    /// Whether it is here.
    pub is_here: bool,
}
