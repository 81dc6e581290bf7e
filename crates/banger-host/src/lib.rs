//! The host as banger sees it: processes, pidfds, monitors, locks, probes.
