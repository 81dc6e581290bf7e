//! The API's description: an OpenAPI 3.1 document, made of the endpoints' table and the types' own schemas.

use banger_types::catalog::Catalog;
use banger_types::engine::EngineStatus;
use banger_types::event::Event;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::monitor::Forward;
use banger_types::operation::Operation;
use banger_types::port::VmPorts;
use banger_types::problem::{MEDIA_TYPE, Problem};
use banger_types::setting::Setting;
use banger_types::space::{PruneRequest, PruneRules, Pruned, SpaceUsage};
use banger_types::stats::VmStats;
use banger_types::system::{HostResources, SystemStatus};
use banger_types::vm::{
    SessionTarget, SshConfiguration, Vm, VmCreateRequest, VmRenameRequest, VmSetRequest, VmStopRequest,
};
use banger_types::web::SignInLink;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::endpoint::{self, Endpoint};
use crate::request::{
    ChangeQuery, DeleteQuery, EngineInstallRequest, EventQuery, ForwardQuery, KernelRegisterRequest,
    LogQuery, PageQuery, PullRequest, RegisterRequest,
};
use crate::route::CONSOLE_PROTOCOL;

/// Returns the description.
///
/// # Panics
/// If an endpoint of the table is not described, or twice: that is a mistake in this file.
pub fn description() -> Value {
    let mut document = Document::new();
    describe_system(&mut document);
    describe_vms(&mut document);
    describe_artifacts(&mut document);
    describe_operations(&mut document);
    document.finish()
}

fn describe_system(document: &mut Document) {
    document.add(&endpoint::SHOW_SYSTEM).answers::<SystemStatus>();
    document.add(&endpoint::SHUT_DOWN).answers::<()>();
    document.add(&endpoint::SHOW_SPACE).answers::<SpaceUsage>();
    document.add(&endpoint::SHOW_PRUNABLE).asks::<PruneRules>().answers::<Pruned>();
    document.add(&endpoint::PRUNE).takes::<PruneRequest>().begins();
    document.add(&endpoint::SHOW_RESOURCES).answers::<HostResources>();
    document.add(&endpoint::LIST_SETTINGS).answers::<Vec<Setting>>();
    document.add(&endpoint::CREATE_SIGN_IN_LINK).answers::<SignInLink>();
    document.add(&endpoint::SHOW_DESCRIPTION).answers::<Map<String, Value>>();
}

fn describe_vms(document: &mut Document) {
    document.add(&endpoint::LIST_VMS).answers::<Vec<Vm>>();
    document.add(&endpoint::CREATE_VM).takes::<VmCreateRequest>().begins();
    document.add(&endpoint::SHOW_VM).answers::<Vm>();
    document.add(&endpoint::SET_VM).asks::<ChangeQuery>().takes::<VmSetRequest>().answers::<Vm>();
    document.add(&endpoint::DELETE_VM).asks::<DeleteQuery>().begins();
    document.add(&endpoint::START_VM).begins();
    document.add(&endpoint::STOP_VM).takes::<VmStopRequest>().begins();
    document.add(&endpoint::KILL_VM).begins();
    document.add(&endpoint::RESTART_VM).takes::<VmStopRequest>().begins();
    document.add(&endpoint::PAUSE_VM).begins();
    document.add(&endpoint::RESUME_VM).begins();
    document.add(&endpoint::TRIM_VM).begins();
    document.add(&endpoint::RENAME_VM).asks::<ChangeQuery>().takes::<VmRenameRequest>().answers::<Vm>();
    document.add(&endpoint::LIST_FORWARDS).answers::<Vec<Forward>>();
    document.add(&endpoint::ADD_FORWARD).takes::<Forward>().answers::<Forward>();
    document.add(&endpoint::REMOVE_FORWARD).asks::<ForwardQuery>().answers::<()>();
    document.add(&endpoint::SHOW_PORTS).answers::<VmPorts>();
    document.add(&endpoint::SHOW_STATS).answers::<VmStats>();
    document.add(&endpoint::SHOW_SESSION).answers::<SessionTarget>();
    document.add(&endpoint::ATTACH_CONSOLE).upgrades(CONSOLE_PROTOCOL);
    document.add(&endpoint::READ_VM_LOG).asks::<LogQuery>().answers_with("text/plain");
    document.add(&endpoint::SHOW_SSH_CONFIGURATION).answers::<SshConfiguration>();
}

fn describe_artifacts(document: &mut Document) {
    document.add(&endpoint::LIST_IMAGES).answers::<Vec<Image>>();
    document.add(&endpoint::PULL_IMAGE).takes::<PullRequest>().begins();
    document.add(&endpoint::SHOW_IMAGE).answers::<Image>();
    document.add(&endpoint::DELETE_IMAGE).begins();
    document.add(&endpoint::REGISTER_IMAGE).takes::<RegisterRequest>().begins();
    document.add(&endpoint::LIST_KERNELS).answers::<Vec<Kernel>>();
    document.add(&endpoint::PULL_KERNEL).takes::<PullRequest>().begins();
    document.add(&endpoint::SHOW_KERNEL).answers::<Kernel>();
    document.add(&endpoint::DELETE_KERNEL).begins();
    document.add(&endpoint::REGISTER_KERNEL).takes::<KernelRegisterRequest>().begins();
    document.add(&endpoint::SHOW_CATALOG).answers::<Catalog>();
    document.add(&endpoint::LIST_ENGINES).answers::<Vec<EngineStatus>>();
    document.add(&endpoint::INSTALL_ENGINE).takes::<EngineInstallRequest>().begins();
}

fn describe_operations(document: &mut Document) {
    document.add(&endpoint::LIST_OPERATIONS).asks::<PageQuery>().answers::<Vec<Operation>>().in_parts();
    document.add(&endpoint::SHOW_OPERATION).answers::<Operation>();
    document.add(&endpoint::CANCEL_OPERATION).answers::<Operation>();
    document.add(&endpoint::READ_OPERATION_LOG).answers_with("text/plain");
    document.add(&endpoint::LISTEN).asks::<EventQuery>().answers_with("text/event-stream");
}

struct Document {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
    described: Vec<&'static str>,
}

impl Document {
    fn new() -> Self {
        // OpenAPI 3.1 section 4.8.24: its schemas are those of JSON Schema 2020-12.
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { schemas: settings.into_generator(), paths: Map::new(), described: Vec::new() }
    }

    /// Begins the description of an endpoint.
    fn add(&mut self, endpoint: &Endpoint) -> Described<'_> {
        self.described.push(endpoint.name);
        let verb = endpoint.verb.as_str().to_lowercase();
        let mut parameters = Vec::new();
        if endpoint.names_something() {
            parameters.push(json!({
                "name": "name", "in": "path", "required": true,
                "description": "Its name or id.", "schema": { "type": "string", "minLength": 1 },
            }));
        }
        let problem = self.schemas.subschema_for::<Problem>();
        let item = json!({
            "operationId": endpoint.name,
            "summary": endpoint.summary,
            "parameters": parameters,
            "responses": {
                "default": {
                    "description": "Why it is refused, or has failed (RFC 9457).",
                    "content": { MEDIA_TYPE: { "schema": problem } },
                },
            },
        });
        let methods = self.paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[&verb] = item;
        Described { item: &mut methods[&verb], schemas: &mut self.schemas }
    }

    fn finish(mut self) -> Value {
        let mut expected: Vec<_> = endpoint::ALL.iter().map(|endpoint| endpoint.name).collect();
        expected.sort_unstable();
        self.described.sort_unstable();
        assert_eq!(self.described, expected, "every endpoint is described once");
        // What a stream consists of is in no answer as such.
        self.schemas.subschema_for::<Event>();
        let schemas = self.schemas.take_definitions(true);
        let mut document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "banger",
                "summary": "Real virtual machines for developers on Linux.",
                "description": "The API of bangerd, on a unix socket that only its user can connect to. A request that begins \
                    long work is answered with 202 and an Operation.",
                "version": env!("CARGO_PKG_VERSION"),
                "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
            },
            "paths": self.paths,
            "components": { "schemas": schemas },
        });
        bound_integers(&mut document);
        document
    }
}

/// An endpoint that is being described.
struct Described<'a> {
    item: &'a mut Value,
    schemas: &'a mut SchemaGenerator,
}

impl Described<'_> {
    /// It has the fields of `T` as its query.
    fn asks<T: JsonSchema>(mut self) -> Self {
        let schema: Schema = T::json_schema(self.schemas);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let parameters = fields.map(|(name, field)| {
            let mut field = field.clone();
            let description = field.as_object_mut().and_then(|field| field.remove("description"));
            json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()),
                "description": description, "schema": not_null(field),
            })
        });
        let parameters: Vec<Value> = parameters.collect();
        self.parameters().extend(parameters);
        self
    }

    fn parameters(&mut self) -> &mut Vec<Value> {
        match &mut self.item["parameters"] {
            Value::Array(parameters) => parameters,
            _ => unreachable!("made as an array"),
        }
    }

    /// It takes a `T` as its body.
    fn takes<T: JsonSchema>(self) -> Self {
        let schema = self.schemas.subschema_for::<T>();
        self.item["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        self
    }

    /// It answers with a `T`.
    fn answers<T: JsonSchema>(self) -> Self {
        let schema = self.schemas.subschema_for::<T>();
        self.item["responses"]["200"] =
            json!({ "description": "Done.", "content": { "application/json": { "schema": schema } } });
        self
    }

    /// It answers with a stream or a text.
    fn answers_with(self, media_type: &str) {
        self.item["responses"]["200"] = json!({ "description": "As it comes.", "content": { media_type: { "schema": { "type": "string" } } } });
    }

    /// It answers with another protocol (RFC 9110 section 7.8).
    fn upgrades(self, protocol: &str) {
        self.item["responses"]["101"] = json!({
            "description": format!(
                "To a request with the headers `Connection: upgrade` and `Upgrade: {protocol}`. The connection is the console then."
            ),
            "headers": { "Upgrade": { "schema": { "type": "string", "const": protocol } } },
        });
        let problem = self.schemas.subschema_for::<Problem>();
        self.item["responses"]["426"] = json!({
            "description": "The request does not ask for the upgrade.",
            "headers": { "Upgrade": { "schema": { "type": "string", "const": protocol } } },
            "content": { MEDIA_TYPE: { "schema": problem } },
        });
    }

    /// Its answer is a part of a list.
    fn in_parts(self) {
        self.item["responses"]["200"]["headers"] = json!({
            "Link": {
                "description": "The address of the next part, as rel=\"next\" (RFC 8288); none at the end.",
                "schema": { "type": "string" },
            },
        });
    }

    /// It begins an operation.
    fn begins(mut self) {
        let schema = self.schemas.subschema_for::<Operation>();
        self.item["responses"]["202"] = json!({
            "description": "Begun.",
            "headers": { "Location": { "description": "The operation's address.", "schema": { "type": "string" } } },
            "content": { "application/json": { "schema": schema } },
        });
        self.parameters().push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A second request with the same key and content gets the operation of the first.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
        }));
    }
}

/// Says of integers how large they may be, where their format alone does.
fn bound_integers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let largest = match fields.get("format").and_then(Value::as_str) {
                Some("uint64" | "uint") => Some(json!(u64::MAX)),
                Some("uint32") => Some(json!(u32::MAX)),
                _ => None,
            };
            if let Some(largest) = largest {
                fields.entry("maximum").or_insert(largest);
            }
            fields.values_mut().for_each(bound_integers);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_integers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns a schema without the null that nobody can write into a query.
fn not_null(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, value| name != "default" || !value.is_null());
    }
    if let Some(types) = schema.get_mut("type").filter(|types| types.is_array()) {
        let one = types.as_array().and_then(|types| types.iter().find(|kind| *kind != "null")).cloned();
        *types = one.unwrap_or_default();
    }
    schema
}
