//! Layers: what one takes away of those before it (OCI image-spec, layer.md, "Representing Changes").
//!
//! A layer takes away what earlier layers have, and never what it brings itself, whatever the order of its entries: so
//! every name knows the last layer that has it, or something beneath it.

use super::{Entry, NodeId, Tree};
use crate::rootfs::{TreePath, WriteError};

impl Tree {
    /// Begins the next layer.
    pub(in super::super) fn next_layer(&mut self) -> Result<(), WriteError> {
        self.layer = self.layer.checked_add(1).ok_or(WriteError::TooManyLayers { limit: u16::MAX })?;
        self.cleared.clear();
        Ok(())
    }

    /// Takes away what earlier layers have at `path` ("Whiteouts"). Nothing to take away is no error.
    pub(in super::super) fn whiteout(&mut self, path: &TreePath) -> Result<(), WriteError> {
        let Some(place) = self.look_up(path)? else { return Ok(()) };
        let entry = self.entries(place.directory).and_then(|entries| entries.get(&place.name)).copied();
        match entry {
            Some(Entry { node, layer }) if layer == self.layer => self.clear(node),
            Some(Entry { node, .. }) => {
                if let Some(entries) = self.entries_mut(place.directory) {
                    entries.remove(&place.name);
                }
                self.drop_name(node);
            }
            None => {}
        }
        Ok(())
    }

    /// Takes away what earlier layers have in the directory `path` ("Opaque Whiteout"), which is made if it is not
    /// there.
    pub(in super::super) fn opaque(&mut self, path: &TreePath) -> Result<(), WriteError> {
        let directory = if path.is_root() { NodeId::ROOT } else { self.open_directory(path)? };
        self.clear(directory);
        Ok(())
    }

    /// Takes away what earlier layers have beneath a node. Once for each directory of a layer: however often it is asked
    /// for, that takes no more time than the layer has entries.
    fn clear(&mut self, node: NodeId) {
        let layer = self.layer;
        let mut mixed = vec![node];
        while let Some(directory) = mixed.pop() {
            if !self.cleared.insert(directory) {
                continue;
            }
            let Some(entries) = self.entries_mut(directory) else { continue };
            let (mut gone, mut kept) = (Vec::new(), Vec::new());
            entries.retain(|_, entry| {
                let stays = entry.layer == layer;
                if stays { &mut kept } else { &mut gone }.push(entry.node);
                stays
            });
            for node in gone {
                self.drop_name(node);
            }
            mixed.extend(kept);
        }
    }
}
