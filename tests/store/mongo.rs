//! The suite on MongoDB: each test in a database of its own, on one server.

use std::sync::Arc;

use async_trait::async_trait;
use ipam::store::Store;
use ipam::store::mongo::{MongoSettings, open};

use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::support::Backend;

pub struct Mongo {
    database: String,
}

impl Mongo {
    pub fn create() -> Self {
        Self { database: fresh_database() }
    }
}

#[async_trait]
impl Backend for Mongo {
    async fn open(&self) -> Arc<dyn Store> {
        let uri = ReplicaSet::shared().await.uri();
        open(&MongoSettings { uri, database: self.database.clone() }).await.unwrap()
    }

    async fn remove(&self) {
        drop_database(&ReplicaSet::shared().await.uri(), &self.database).await;
    }
}
