//! Documents of images: what is read of them is what a reader of any JSON sees, within its bounds, and one image at most.
#![no_main]

use banger_fuzz::seeds;
use banger_image::oci::document::{
    Config, Descriptor, Document, DocumentError, MANIFEST_TYPES, MOST_LAYERS, Platform,
};
use banger_image::oci::{Got, OciError, resolve};
use banger_types::digest::Digest;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// What stands between documents, and can be in none.
const BETWEEN: u8 = 0;

const SEEDS: [&[u8]; 3] = [
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":7,"platform":{"architecture":"amd64","os":"linux","variant":"v1"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"}},{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":7,"platform":{"architecture":"amd64","os":"linux"},"annotations":null}]}"#,
    br#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":7},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","size":7}]}"#,
    br#"{"architecture":"amd64","os":"linux","config":{"User":"1:2","ExposedPorts":{"1/tcp":{}},"Env":["A=b"],"Entrypoint":null,"Cmd":["c"],"WorkingDir":"/","Labels":{"a":"b"},"StopSignal":"SIGINT"},"rootfs":{"type":"layers","diff_ids":["sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"]}}"#,
];

fuzz_target!(
    init: {
        let all = SEEDS.join(&BETWEEN);
        let image = SEEDS[1..].join(&BETWEEN);
        seeds::plant(SEEDS.into_iter().chain([&all[..], &image]));
    },
    |bytes: &[u8]| {
        let mut documents = bytes.split(|&byte| byte == BETWEEN);
        let first = documents.next().unwrap_or_default();
        match Document::parse(first, None) {
            Ok(document) => compare(first, &document),
            Err(error) => is_printable(&error),
        }
        configuration(first);
        image(first, documents);
    }
);

/// Compares an index or a manifest with what anybody reads of it.
fn compare(bytes: &[u8], document: &Document) {
    // What is left out is not looked at as closely as this does: in it may be what is no text.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    let descriptors = match document {
        Document::Index(manifests) => {
            let others = [field(&value, "config", 2), field(&value, "layers", 3)];
            assert!(others.into_iter().all(Value::is_null), "it is an index and nothing else");
            (field(&value, "manifests", 4), manifests)
        }
        Document::Manifest(manifest) => {
            assert!(field(&value, "manifests", 4).is_null(), "it is a manifest and nothing else");
            assert!(manifest.layers.len() <= MOST_LAYERS);
            same(&value["config"], &manifest.config);
            (&value["layers"], &manifest.layers)
        }
    };
    assert_eq!(descriptors.0.as_array().map(Vec::len), Some(descriptors.1.len()));
    for (at, descriptor) in descriptors.1.iter().enumerate() {
        same(&descriptors.0[at], descriptor);
    }
}

/// Returns a field of an object, or of an array of the fields in their order: serde takes those, too.
fn field<'a>(value: &'a Value, name: &str, at: usize) -> &'a Value {
    value.get(name).or_else(|| value.get(at)).unwrap_or(&Value::Null)
}

fn same(value: &Value, descriptor: &Descriptor) {
    let digest = field(value, "digest", 1).as_str().and_then(|digest| digest.parse::<Digest>().ok());
    assert_eq!(digest, Some(descriptor.digest));
    assert_eq!(field(value, "size", 2).as_u64(), Some(descriptor.size));
    assert_eq!(field(value, "mediaType", 0).as_str().unwrap_or_default(), descriptor.media_type);
}

fn configuration(bytes: &[u8]) {
    for layers in 0..2 {
        match Config::parse(bytes, &Platform::of_this_host(), layers) {
            Ok(config) => assert_eq!(config.diff_ids.len(), layers),
            Err(error) => is_printable(&error),
        }
    }
}

/// What is said of somebody else's document goes to terminals and into logs.
fn is_printable(error: &DocumentError) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Goes from the first document to an image; each that is asked for is the next.
fn image<'a>(first: &[u8], mut documents: impl Iterator<Item = &'a [u8]>) {
    let digest = Digest::from_bytes([0; 32]);
    let got = Got { bytes: first.to_vec(), media_type: Some(MANIFEST_TYPES[0].to_owned()), digest };
    let mut asked = 0;
    let resolved = resolve(got, |_, _, _| {
        asked += 1;
        documents.next().map(<[u8]>::to_vec).ok_or(OciError::TooDeep)
    });
    assert!(asked <= 5, "{asked} documents were asked for");
    match resolved {
        Ok(resolved) => assert_eq!(resolved.layers().len(), resolved.manifest.layers.len()),
        Err(OciError::Document(error)) => is_printable(&error),
        Err(_) => {}
    }
}
