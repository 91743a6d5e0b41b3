//! CopyService: the archives themselves are the engine's business; here they become messages.

use dockctl_api::{
    error::bad_field,
    v1::{
        ReadArchiveRequest, ReadArchiveResponse, StatPathRequest, StatPathResponse,
        WriteArchiveRequest, WriteArchiveResponse, copy_service_server::CopyService,
    },
};
use futures_util::{StreamExt as _, stream};
use tonic::{Request, Response, Status, Streaming};

use super::{Agent, ResponseStream};

#[tonic::async_trait]
impl CopyService for Agent {
    async fn stat_path(
        &self,
        request: Request<StatPathRequest>,
    ) -> Result<Response<StatPathResponse>, Status> {
        let engine = self.engine(&request);
        let StatPathRequest { container, path, .. } = request.into_inner();
        let stat = Some(engine.stat_path(&container, &path).await?);
        Ok(Response::new(StatPathResponse { stat }))
    }

    async fn read_archive(
        &self,
        request: Request<ReadArchiveRequest>,
    ) -> Result<Response<ResponseStream<ReadArchiveResponse>>, Status> {
        let ReadArchiveRequest { container, path, .. } = request.into_inner();
        let (stat, pieces) = self.engine.read_archive(&container, &path).await?;
        let first = ReadArchiveResponse { stat: Some(stat), ..Default::default() };
        let rest = pieces.map(|data| Ok(ReadArchiveResponse { data: data?, stat: None }));
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(rest))))
    }

    async fn write_archive(
        &self,
        request: Request<Streaming<WriteArchiveRequest>>,
    ) -> Result<Response<WriteArchiveResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?;
        let first = first.ok_or_else(|| bad_field("container", "the first message is missing"))?;
        let WriteArchiveRequest { container, path, keep_owners, data, .. } = first;
        let mut writer = self.engine.write_archive(&container, &path, keep_owners).await?;
        writer.write(data).await?;
        while let Some(message) = requests.message().await? {
            writer.write(message.data).await?;
        }
        writer.finish().await?;
        Ok(Response::new(WriteArchiveResponse {}))
    }
}
