//! Images from the Docker daemon of this host.

use std::sync::Arc;

use banger_core::work::Work as _;
use banger_download::{DownloadError, docker};
use banger_image::oci::open_docker_archive;
use banger_image::publish::PARTIAL_PREFIX;
use banger_image::source::Content;
use banger_types::ApiError;
use banger_types::reference::DockerReference;

use super::super::Artifacts;
use crate::failure::{failed, work_failed};
use crate::operation::Handle;
use crate::vm::blocking;

impl Artifacts {
    /// Takes an image from Docker's store. It is kept as a file without a name until it is written, for what says which
    /// layers it has comes last.
    pub(super) async fn take_from_docker(
        &self,
        what: &str,
        reference: &DockerReference,
        operation: &Arc<Handle>,
    ) -> Result<Content, ApiError> {
        operation.stage("image: take it from Docker");
        let options = self.build_options()?;
        let directory = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(&options.scratch);
        let directory = directory.map_err(|error| failed(format!("cannot {what}"), &error))?;
        let archive = directory.path().join("image.tar");
        let saved = async {
            let socket = docker::socket(|name| std::env::var(name).ok())?;
            docker::save(&socket, reference, &archive, options.largest, operation.as_ref()).await
        };
        saved.await.map_err(|error: DownloadError| {
            work_failed(what, matches!(error, DownloadError::Cancelled(_)), error.fix(), &error)
        })?;
        let opened = blocking(what, move || {
            let opened = open_docker_archive(&archive, None, &options.scratch);
            drop(directory);
            opened
        });
        let image = opened.await?.map_err(|error| work_failed(what, false, error.fix(), &error))?;
        Ok(Content::Layers(Box::new(image)))
    }
}
