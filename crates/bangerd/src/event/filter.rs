//! What a client wants to hear of.

use banger_types::OperationId;
use banger_types::event::{Change, EventKind};

/// What a client wants to hear of. Each condition that is given has to be met.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Any of these; everything when there are none.
    pub(crate) kinds: Vec<EventKind>,
    /// A VM, and operations on it.
    pub(crate) vm: Option<NamedVm>,
    /// One operation.
    pub(crate) operation: Option<OperationId>,
}

/// A VM that somebody named.
#[derive(Debug)]
pub(crate) struct NamedVm {
    /// What it is called now.
    pub(crate) name: String,
    /// Its id, once that is known: it is heard of under every name from then on, and another of its name is not.
    pub(crate) id: Option<String>,
}

impl Filter {
    /// Returns whether a kind of thing can be among what is wanted.
    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        let by_kind = self.kinds.is_empty() || self.kinds.contains(&kind);
        let by_operation = self.operation.is_none() || kind == EventKind::Operation;
        let by_vm = self.vm.is_none() || matches!(kind, EventKind::Vm | EventKind::Operation);
        by_kind && by_operation && by_vm
    }

    /// Returns whether a change is wanted.
    pub(crate) fn lets_through(&mut self, change: &Change) -> bool {
        let Some(kind) = change.kind() else { return true };
        // First, for it may say what the VM is called from now on.
        let of_vm = self.vm.as_mut().is_none_or(|vm| vm.is_meant_by(change));
        let of_operation = match (&self.operation, change) {
            (None, _) => true,
            (Some(id), Change::Operation { operation }) => operation.id == *id,
            (Some(_), _) => false,
        };
        self.wants(kind) && of_vm && of_operation
    }
}

impl NamedVm {
    fn is_meant_by(&mut self, change: &Change) -> bool {
        match change {
            Change::Vm { vm } => {
                let meant = self.is_called(vm.id.as_str(), vm.name.as_str());
                if meant {
                    vm.name.as_str().clone_into(&mut self.name);
                    self.id = Some(vm.id.to_string());
                }
                meant
            }
            Change::VmDeleted { gone } => self.is_called(&gone.id, &gone.name),
            Change::Operation { operation } => operation.kind.is_of_vm() && operation.subject == self.name,
            _ => false,
        }
    }

    fn is_called(&self, id: &str, name: &str) -> bool {
        match &self.id {
            Some(known) => known == id,
            None => self.name == name || self.name == id,
        }
    }
}
