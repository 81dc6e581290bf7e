//! What takes space, by the daemon's word and by du(1)'s.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Environment;

/// How long the two may take to come to the same: the daemon writes its log and its database all the while.
const LIMIT: Duration = Duration::from_mins(1);

/// Returns what `banger system df` says.
pub fn df(environment: &Environment) -> Value {
    let usage = environment.run(&["system", "df", "--json"]);
    assert_eq!(usage.code, 0, "{}", usage.stderr);
    usage.json()
}

/// Returns what du(1) says of a data directory, bytes.
pub fn du(environment: &Environment) -> u64 {
    let mut command = environment.command("du");
    let said = environment.outcome(command.args(["-s", "-B1"]).arg(environment.data())).text();
    said.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number of bytes")
}

/// Fails unless the daemon and du(1) come to the same sum: of two looks of du's that are the same, that between them counts.
pub fn assert_df_is_du(environment: &Environment) {
    let end = Instant::now() + LIMIT;
    loop {
        let (before, usage, after) = (du(environment), df(environment), du(environment));
        let items = usage["items"].as_array().expect("items");
        let sum: u64 = items.iter().filter_map(|item| item["bytes"].as_u64()).sum();
        assert_eq!(usage["total"], sum);
        if before == after && before == sum {
            return;
        }
        assert!(Instant::now() < end, "du says {before} and {after}, the daemon {sum}: {usage}");
    }
}
