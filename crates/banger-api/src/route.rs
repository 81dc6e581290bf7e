//! Paths of the API, written once: the server's patterns and the client's addresses.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// The version of the API, as paths begin with it.
pub const VERSION: &str = "v1";

/// Header that carries the version of whoever sent the message.
pub const VERSION_HEADER: &str = "banger-version";

/// Header that makes a request that begins an operation the same as an earlier one with the same key and content.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";

/// What a connection to a VM's serial console speaks, by its name in the `Upgrade` header (RFC 9110 section 7.8): bytes, both ways.
pub const CONSOLE_PROTOCOL: &str = "banger-console";

/// Status of the daemon.
pub const SYSTEM: &str = "/v1/system";
/// Ends the daemon; VMs go on.
pub const SYSTEM_SHUTDOWN: &str = "/v1/system/shutdown";
/// What takes space in the data directory.
pub const SYSTEM_SPACE: &str = "/v1/system/space";
/// Takes away what nobody uses.
pub const SYSTEM_PRUNE: &str = "/v1/system/prune";
/// What the host has, and what VMs were promised of it.
pub const SYSTEM_RESOURCES: &str = "/v1/system/resources";
/// Settings in force, and where each is from.
pub const SYSTEM_SETTINGS: &str = "/v1/system/settings";
/// Addresses that open the web console, each once.
pub const SIGN_IN_LINKS: &str = "/v1/system/sign-in-links";
/// VMs.
pub const VMS: &str = "/v1/vms";
/// One VM, by name or id.
pub const VM: &str = "/v1/vms/{name}";
/// Boot it.
pub const VM_START: &str = "/v1/vms/{name}/start";
/// Stop it in order.
pub const VM_STOP: &str = "/v1/vms/{name}/stop";
/// Stop it at once.
pub const VM_KILL: &str = "/v1/vms/{name}/kill";
/// Stop it in order and boot it again.
pub const VM_RESTART: &str = "/v1/vms/{name}/restart";
/// Make its virtual CPUs stand still.
pub const VM_PAUSE: &str = "/v1/vms/{name}/pause";
/// Let them go on.
pub const VM_RESUME: &str = "/v1/vms/{name}/resume";
/// Give back what its guest does not use of its disk.
pub const VM_TRIM: &str = "/v1/vms/{name}/trim";
/// Give it another name.
pub const VM_RENAME: &str = "/v1/vms/{name}/rename";
/// The ports of the host that lead into it.
pub const VM_FORWARDS: &str = "/v1/vms/{name}/forwards";
/// What listens in it, and how that is reached.
pub const VM_PORTS: &str = "/v1/vms/{name}/ports";
/// What it takes of its own resources and of the host's.
pub const VM_STATS: &str = "/v1/vms/{name}/stats";
/// What a client needs to open a session.
pub const VM_SESSION: &str = "/v1/vms/{name}/session";
/// Its serial console: a connection that stops being HTTP.
pub const VM_CONSOLE: &str = "/v1/vms/{name}/console";
/// Its logs, as text.
pub const VM_LOGS: &str = "/v1/vms/{name}/logs";
/// How OpenSSH's programs reach the VMs.
pub const SSH_CONFIG: &str = "/v1/ssh-config";
/// Images.
pub const IMAGES: &str = "/v1/images";
/// One image, by name or id.
pub const IMAGE: &str = "/v1/images/{name}";
/// Images that are files of the user's own, used where they are.
pub const REGISTERED_IMAGES: &str = "/v1/registered-images";
/// Kernels.
pub const KERNELS: &str = "/v1/kernels";
/// One kernel, by name or id.
pub const KERNEL: &str = "/v1/kernels/{name}";
/// Kernels that are files of the user's own, used where they are.
pub const REGISTERED_KERNELS: &str = "/v1/registered-kernels";
/// What images and kernels can be had by name.
pub const CATALOG: &str = "/v1/catalog";
/// Engines.
pub const ENGINES: &str = "/v1/engines";
/// Operations.
pub const OPERATIONS: &str = "/v1/operations";
/// One operation, by id.
pub const OPERATION: &str = "/v1/operations/{name}";
/// Asks the operation to stop.
pub const OPERATION_CANCEL: &str = "/v1/operations/{name}/cancel";
/// The operation's log, as text.
pub const OPERATION_LOG: &str = "/v1/operations/{name}/log";

/// What changes: a stream of server-sent events.
pub const EVENTS: &str = "/v1/events";

/// The API's description (OpenAPI 3.1).
pub const OPENAPI: &str = "/v1/openapi.json";

/// Everything that RFC 3986 section 3.3 does not allow in a path segment.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\')
    .add(b'^')
    .add(b'|')
    .add(b'[')
    .add(b']');

/// Returns the address of the thing called `name` under the pattern `route`.
pub fn path(route: &str, name: &str) -> String {
    route.replace("{name}", &utf8_percent_encode(name, SEGMENT).to_string())
}

/// Returns `value` as it stands in a query, so that it is one value.
pub(crate) fn query_value(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(path(VM_STOP, "web"), "/v1/vms/web/stop");
        assert_eq!(path(VM, "a/../b?c#d e"), "/v1/vms/a%2F..%2Fb%3Fc%23d%20e");
        assert_eq!(path(IMAGE, "debian:bookworm"), "/v1/images/debian:bookworm");
    }
}
