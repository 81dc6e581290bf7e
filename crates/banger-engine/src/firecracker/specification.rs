//! Everything that Firecracker is told, held against its own description of its API (`OpenAPI` 2.0), where a source tree
//! of it is at hand: `BANGER_FIRECRACKER_SOURCE` names one.

use std::path::Path;

use banger_core::engine::{BootPlan, ProbePlan, Question};
use banger_core::network::{Attachment, NetworkPlan};
use banger_types::guest::GuestNetwork;
use banger_types::monitor::Program;
use banger_types::vm::Accelerator;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::{client, configuration};
use crate::sample;

const SOURCE: &str = "BANGER_FIRECRACKER_SOURCE";
const DESCRIPTION: &str = "src/firecracker/swagger/firecracker.yaml";

/// The paths whose bodies the configuration's parts are. A list is a request for each of its elements.
const PARTS: [(&str, &str); 6] = [
    ("boot-source", "/boot-source"),
    ("drives", "/drives/{drive_id}"),
    ("network-interfaces", "/network-interfaces/{iface_id}"),
    ("machine-config", "/machine-config"),
    ("vsock", "/vsock"),
    ("entropy", "/entropy"),
];

fn documents() -> [Value; 2] {
    let plan = BootPlan { network: Some(network()), ..sample::plan("/v", Accelerator::Kvm) };
    let probe = ProbePlan {
        question: Question::Inspect("/v/root.ext4".into()),
        accelerator: Accelerator::Kvm,
        kernel: plan.kernel.clone(),
        vmlinux: plan.vmlinux.clone(),
        initramfs: plan.initramfs.clone(),
    };
    [configuration::document(&plan, super::VSOCK).unwrap(), configuration::probe(&probe).unwrap()]
        .map(|json| serde_json::from_slice(&json).unwrap())
}

fn network() -> NetworkPlan {
    let through = Program {
        name: "tap".to_owned(),
        path: "/lib/banger-tap".into(),
        arguments: Vec::new(),
        descriptors: Vec::new(),
    };
    NetworkPlan {
        helpers: Vec::new(),
        attachment: Attachment::Tap { device: "tap0".to_owned(), through },
        own_stack: None,
        guest: GuestNetwork {
            mac: "02:62:6e:67:00:01".to_owned(),
            mtu: 1500,
            addresses: Vec::new(),
            gateways: Vec::new(),
            nameservers: Vec::new(),
            search: Vec::new(),
        },
    }
}

/// Returns all requests: method, path and body.
fn requests() -> Vec<(&'static str, &'static str, Value)> {
    let mut requests = Vec::new();
    for document in documents() {
        for (part, content) in document.as_object().unwrap() {
            let (_, path) = *PARTS.iter().find(|(name, _)| name == part).expect("a part that is known here");
            let bodies = content.as_array().cloned().unwrap_or_else(|| vec![content.clone()]);
            requests.extend(bodies.into_iter().map(|body| ("PUT", path, body)));
        }
    }
    let (method, path) = client::DESCRIBE;
    requests.push((method, path, Value::Null));
    requests
}

#[test]
fn drives_come_in_the_guests_order_and_their_flushes_are_done() {
    let [document, _] = documents();
    let drives = document["drives"].as_array().unwrap();
    let named: Vec<_> = drives.iter().map(|drive| drive["drive_id"].as_str().unwrap()).collect();
    assert_eq!(named, ["base", "private", "modules", "configuration"]);
    for drive in drives {
        assert_eq!(drive["is_read_only"], drive["drive_id"] != "private", "{drive}");
        assert_eq!(drive["cache_type"], "Writeback", "{drive}");
    }
    assert_eq!(document["machine-config"]["mem_size_mib"], 1536);
}

#[test]
fn every_request_is_as_firecracker_describes_it() {
    let Some(source) = std::env::var_os(SOURCE) else {
        let reason = format!("{SOURCE} names no source tree of Firecracker");
        banger_testkit::not_run("every_request_is_as_firecracker_describes_it", &reason);
        return;
    };
    let text = std::fs::read_to_string(Path::new(&source).join(DESCRIPTION)).unwrap();
    let description = Description(YamlLoader::load_from_str(&text).unwrap().remove(0));
    let requests = requests();
    assert!(requests.len() > 10);
    for (method, path, body) in requests {
        let operation = &description.0["paths"][path][method.to_lowercase().as_str()];
        assert!(!operation.is_badvalue(), "there is no {method} {path}");
        let parameters = operation["parameters"].as_vec().cloned().unwrap_or_default();
        let schema = parameters.iter().find(|parameter| parameter["in"].as_str() == Some("body"));
        match schema {
            Some(parameter) => description.check(&parameter["schema"], &body, path),
            None => assert_eq!(body, Value::Null, "{method} {path} has no body"),
        }
    }
}

#[test]
#[should_panic(expected = "has no field 'kernel_path'")]
fn a_field_that_is_not_described_is_found() {
    let text = "definitions: {B: {type: object, required: [], properties: {initrd_path: {type: string}}}}";
    let description = Description(YamlLoader::load_from_str(text).unwrap().remove(0));
    let schema = YamlLoader::load_from_str("$ref: '#/definitions/B'").unwrap().remove(0);
    description.check(&schema, &serde_json::json!({ "initrd_path": "/x", "kernel_path": "/y" }), "/boot");
}

struct Description(Yaml);

impl Description {
    /// Panics unless the value is as the schema says.
    fn check(&self, schema: &Yaml, value: &Value, at: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap();
            return self.check(&self.0["definitions"][name], value, at);
        }
        match schema["type"].as_str() {
            Some("object") => self.check_object(schema, value, at),
            Some("string") => {
                let text = value.as_str().unwrap_or_else(|| panic!("{at}: {value} is no string"));
                let allowed = schema["enum"].as_vec();
                let is_allowed = allowed.is_none_or(|all| all.iter().any(|one| one.as_str() == Some(text)));
                assert!(is_allowed, "{at}: '{text}' is none of {allowed:?}");
            }
            Some("integer") => {
                let number = value.as_i64().unwrap_or_else(|| panic!("{at}: {value} is no integer"));
                assert!(schema["minimum"].as_i64().is_none_or(|least| number >= least), "{at}: {number}");
                assert!(schema["maximum"].as_i64().is_none_or(|most| number <= most), "{at}: {number}");
            }
            Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
            other => panic!("{at}: schemas of type {other:?} are not known here"),
        }
    }

    fn check_object(&self, schema: &Yaml, value: &Value, at: &str) {
        let fields = value.as_object().unwrap_or_else(|| panic!("{at}: {value} is no object"));
        for required in schema["required"].as_vec().into_iter().flatten() {
            let name = required.as_str().unwrap();
            assert!(fields.contains_key(name), "{at} lacks the field '{name}'");
        }
        for (name, value) in fields {
            let property = &schema["properties"][name.as_str()];
            assert!(!property.is_badvalue(), "{at} has no field '{name}'");
            self.check(property, value, &format!("{at}.{name}"));
        }
    }
}
