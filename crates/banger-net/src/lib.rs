//! Networks of VMs: address plans and the programs that carry them.
