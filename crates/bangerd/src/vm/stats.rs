//! What a VM takes, as its guest and the host say when somebody asks.

use std::time::Duration;

use banger_types::guest::{GuestReply, GuestRequest, GuestStats};
use banger_types::stats::HostUsage;
use banger_types::{ApiError, VmId};

use super::context::{Context, blocking};
use super::monitors;

/// How long a guest may take to answer before it is shown without its own word.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Returns what a guest says of itself, and what its processes take. A guest that does not answer has nothing to say.
pub(crate) async fn look_at(
    context: &Context,
    id: &VmId,
) -> Result<(Option<GuestStats>, Option<HostUsage>), ApiError> {
    let guest = async {
        let asked = async { monitors::open(context, id)?.guest(GuestRequest::Stats).await };
        match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok(Ok(GuestReply::Stats(stats))) => Some(stats),
            _ => None,
        }
    };
    let host = async {
        let status = async { monitors::open(context, id)?.status().await };
        let pid = tokio::time::timeout(ANSWER_LIMIT, status).await.ok()?.ok()?.monitor_pid;
        let directory = context.layout.vm(id);
        let look = move || {
            let group = banger_host::control_group_of(&directory);
            banger_host::usage_of_tree(pid, group.as_deref())
        };
        blocking("look at a VM's processes", look).await.ok()?
    };
    Ok(tokio::join!(guest, host))
}
