//! Everything that can be asked of the daemon, as one table: its router, its description and their tests read it.

use crate::route;

/// HTTP method of an endpoint (RFC 9110 section 9.3; RFC 5789 for PATCH).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Changes nothing.
    Get,
    /// Begins or does something.
    Post,
    /// Changes what is named.
    Patch,
    /// Deletes something.
    Delete,
}

/// Something that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is called in the description.
    pub name: &'static str,
    /// Its method.
    pub verb: Verb,
    /// Its path, with `{name}` for what is named.
    pub path: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

macro_rules! endpoints {
    ($($constant:ident = $name:literal: $verb:ident $path:ident, $summary:literal;)*) => {
        $(
            #[doc = $summary]
            pub const $constant: Endpoint =
                Endpoint { name: $name, verb: Verb::$verb, path: route::$path, summary: $summary };
        )*
        /// All of them.
        pub const ALL: &[Endpoint] = &[$($constant),*];
    };
}

endpoints! {
    SHOW_SYSTEM = "show_system": Get SYSTEM, "The daemon's status.";
    SHUT_DOWN = "shut_down": Post SYSTEM_SHUTDOWN, "End the daemon; VMs go on.";
    SHOW_SPACE = "show_space": Get SYSTEM_SPACE, "What takes space in the data directory.";
    SHOW_PRUNABLE = "show_prunable": Get SYSTEM_PRUNE, "What a prune by these rules would take away.";
    PRUNE = "prune": Post SYSTEM_PRUNE, "Take away what nobody uses.";
    SHOW_RESOURCES = "show_resources": Get SYSTEM_RESOURCES, "What the host has, what of it is used, and what VMs were promised of it.";
    LIST_SETTINGS = "list_settings": Get SYSTEM_SETTINGS, "The settings in force, and where each is from.";
    CREATE_SIGN_IN_LINK = "create_sign_in_link": Post SIGN_IN_LINKS, "Make an address that opens the web console once, within some minutes.";
    LIST_VMS = "list_vms": Get VMS, "All VMs, ordered by name.";
    CREATE_VM = "create_vm": Post VMS, "Make a VM, and boot it unless asked not to.";
    SHOW_VM = "show_vm": Get VM, "A VM, by name or id.";
    SET_VM = "set_vm": Patch VM, "Change what is wanted of a VM: what is named changes, the rest stays.";
    DELETE_VM = "delete_vm": Delete VM, "Delete a VM with all that is on its disk.";
    START_VM = "start_vm": Post VM_START, "Boot a VM.";
    STOP_VM = "stop_vm": Post VM_STOP, "Stop a VM in order; it is killed if that takes too long.";
    KILL_VM = "kill_vm": Post VM_KILL, "Stop a VM without asking its guest.";
    RESTART_VM = "restart_vm": Post VM_RESTART, "Stop a VM in order and boot it again.";
    PAUSE_VM = "pause_vm": Post VM_PAUSE, "Make a VM's virtual CPUs stand still.";
    RESUME_VM = "resume_vm": Post VM_RESUME, "Let a paused VM go on.";
    TRIM_VM = "trim_vm": Post VM_TRIM, "Give back what a VM's guest does not use of its disk.";
    RENAME_VM = "rename_vm": Post VM_RENAME, "Give a VM another name.";
    LIST_FORWARDS = "list_forwards": Get VM_FORWARDS, "A VM's forwards: those in force while it runs, else those that it will have.";
    ADD_FORWARD = "add_forward": Post VM_FORWARDS, "Add a forward, for now and for later starts.";
    REMOVE_FORWARD = "remove_forward": Delete VM_FORWARDS, "End a forward; open connections go on.";
    SHOW_PORTS = "show_ports": Get VM_PORTS, "What listens in a VM that runs, and what reaches it from the host.";
    SHOW_STATS = "show_stats": Get VM_STATS, "What a VM takes of its own resources and of the host's, at this moment.";
    SHOW_SESSION = "show_session": Get VM_SESSION, "What a client needs to open a session in a running VM; waits for one that boots.";
    ATTACH_CONSOLE = "attach_console": Get VM_CONSOLE, "The serial console of a VM that runs: what it prints and what is typed there, as bytes.";
    READ_VM_LOG = "read_vm_log": Get VM_LOGS, "One of a VM's logs, as text.";
    SHOW_SSH_CONFIGURATION = "show_ssh_configuration": Get SSH_CONFIG, "How OpenSSH's programs reach the VMs.";
    LIST_IMAGES = "list_images": Get IMAGES, "All images, ordered by name.";
    PULL_IMAGE = "pull_image": Post IMAGES, "Make an image.";
    SHOW_IMAGE = "show_image": Get IMAGE, "An image, by name or id.";
    DELETE_IMAGE = "delete_image": Delete IMAGE, "Delete an image that no VM uses.";
    REGISTER_IMAGE = "register_image": Post REGISTERED_IMAGES, "Use files of the user's own as an image, where they are.";
    LIST_KERNELS = "list_kernels": Get KERNELS, "All kernels, ordered by name.";
    PULL_KERNEL = "pull_kernel": Post KERNELS, "Make a kernel.";
    SHOW_KERNEL = "show_kernel": Get KERNEL, "A kernel, by name or id.";
    DELETE_KERNEL = "delete_kernel": Delete KERNEL, "Delete a kernel that no VM uses.";
    REGISTER_KERNEL = "register_kernel": Post REGISTERED_KERNELS, "Use files of the user's own as a kernel, where they are.";
    SHOW_CATALOG = "show_catalog": Get CATALOG, "What images and kernels can be had by name.";
    LIST_ENGINES = "list_engines": Get ENGINES, "All engines, as they are on the host.";
    INSTALL_ENGINE = "install_engine": Post ENGINES, "Download an engine, check it and install it.";
    LIST_OPERATIONS = "list_operations": Get OPERATIONS, "Operations that are remembered, the newest first.";
    SHOW_OPERATION = "show_operation": Get OPERATION, "An operation, by id.";
    CANCEL_OPERATION = "cancel_operation": Post OPERATION_CANCEL, "Ask an operation to stop and to undo what it had begun.";
    READ_OPERATION_LOG = "read_operation_log": Get OPERATION_LOG, "An operation's log, as text.";
    LISTEN = "listen": Get EVENTS, "What changes, as server-sent events whose data is an Event, until one of the two ends goes.";
    SHOW_DESCRIPTION = "show_description": Get OPENAPI, "This description.";
}

impl Verb {
    /// Returns the method's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl Endpoint {
    /// Returns whether a request with this method and path is for it.
    pub fn is_asked_by(&self, method: &str, path: &str) -> bool {
        let own = self.path.split('/');
        let same = |own: &str, asked: &str| own == asked || own == "{name}" && !asked.is_empty();
        method == self.verb.as_str()
            && own.clone().count() == path.split('/').count()
            && own.zip(path.split('/')).all(|(own, asked)| same(own, asked))
    }

    /// Returns whether its path names something.
    pub fn names_something(&self) -> bool {
        self.path.contains("{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_one_endpoint_or_none() {
        let asked = |method: &str, path: &str| {
            let found: Vec<_> =
                ALL.iter().filter(|it| it.is_asked_by(method, path)).map(|it| it.name).collect();
            assert!(found.len() < 2, "{found:?}");
            found.first().copied()
        };
        assert_eq!(asked("POST", "/v1/vms"), Some("create_vm"));
        assert_eq!(asked("POST", "/v1/vms/web/start"), Some("start_vm"));
        assert_eq!(asked("DELETE", "/v1/vms/web"), Some("delete_vm"));
        for (method, path) in
            [("PATCH", "/v1/vms"), ("POST", "/v1/vms/"), ("TRACE", "/v1/vms"), ("POST", "/v1/vms/a/b")]
        {
            assert_eq!(asked(method, path), None, "{method} {path}");
        }
    }
}
