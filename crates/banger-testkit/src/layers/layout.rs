//! OCI image layouts made by hand.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A layout in a directory of the test's own, to which images are added.
#[derive(Debug)]
pub struct Layout {
    /// Its directory.
    pub path: PathBuf,
    manifests: Vec<Value>,
}

/// What a layer is packed with.
#[derive(Debug, Clone, Copy)]
pub enum Packing {
    /// Nothing.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Layout {
    /// Makes one without images.
    pub fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).expect("write a layout");
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write a layout");
        Self { path, manifests: Vec::new() }
    }

    /// Adds content, and returns its descriptor.
    pub fn add(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = format!("{:x}", Sha256::digest(content));
        std::fs::write(self.blob(&digest), content).expect("write a layout");
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len() })
    }

    fn blob(&self, digits: &str) -> PathBuf {
        self.path.join("blobs/sha256").join(digits)
    }

    /// Returns the file of what a descriptor points to.
    pub fn file(&self, descriptor: &Value) -> PathBuf {
        self.blob(descriptor["digest"].as_str().expect("write a layout").trim_start_matches("sha256:"))
    }

    /// Adds an image of these layers, the lowest first, and returns its manifest's descriptor.
    pub fn image(&self, layers: &[(&[u8], Packing)], config: &Value) -> Value {
        let diff_ids: Vec<_> =
            layers.iter().map(|(tar, _)| format!("sha256:{:x}", Sha256::digest(tar))).collect();
        let layers: Vec<_> = layers.iter().map(|(tar, packing)| self.layer(tar, *packing)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            // Buildah builds nothing on an image without one.
            "history": vec![json!({ "created_by": "a test" }); layers.len()],
        });
        let config = self.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        self.manifest(&json!({ "schemaVersion": 2, "config": config, "layers": layers }))
    }

    /// Adds a manifest.
    pub fn manifest(&self, manifest: &Value) -> Value {
        self.add("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    /// Adds a layer.
    pub fn layer(&self, tar: &[u8], packing: Packing) -> Value {
        let tar_type = "application/vnd.oci.image.layer.v1.tar";
        match packing {
            Packing::Plain => self.add(tar_type, tar),
            Packing::Gzip => self.add(&format!("{tar_type}+gzip"), &gzip(tar)),
            Packing::Zstd => {
                self.add(&format!("{tar_type}+zstd"), &zstd::encode_all(tar, 3).expect("write a layout"))
            }
        }
    }

    /// Gives a manifest, or an index, a name in the layout.
    pub fn name(&mut self, descriptor: &Value, name: Option<&str>) {
        let mut descriptor = descriptor.clone();
        if let Some(name) = name {
            descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        self.manifests.push(descriptor);
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        std::fs::write(self.path.join("index.json"), index.to_string()).expect("write a layout");
    }

    /// A layout with one image.
    pub fn of(path: &Path, layers: &[(&[u8], Packing)], config: &Value) -> Self {
        let mut layout = Self::new(path.to_owned());
        let image = layout.image(layers, config);
        layout.name(&image, Some("one"));
        layout
    }
}

/// Packs bytes with gzip.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("write a layout");
    encoder.finish().expect("write a layout")
}
