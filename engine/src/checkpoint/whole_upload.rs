//! An upload in parts that becomes one put: for stores whose put is what makes a file durable, or what is repeated.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutOptions, PutPayload, PutResult, Result, UploadPart};

/// Collects its parts in memory.
#[derive(Debug)]
pub(super) struct WholeUpload {
    store: Arc<dyn ObjectStore>,
    location: Path,
    parts: Vec<PutPayload>,
}

impl WholeUpload {
    pub(super) fn to(store: Arc<dyn ObjectStore>, location: &Path) -> Box<dyn MultipartUpload> {
        Box::new(WholeUpload { store, location: location.clone(), parts: Vec::new() })
    }
}

#[async_trait]
impl MultipartUpload for WholeUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        self.parts.push(part);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = std::mem::take(&mut self.parts).into_iter().flatten().collect();
        self.store.put_opts(&self.location, payload, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}
