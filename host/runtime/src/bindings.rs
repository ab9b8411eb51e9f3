//! Host bindings, generated from the contract in `wit/`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wasmtime::component::bindgen!({
    inline: r#"
        package dagster-ray:runtime;
        world contract {
            import wasi:logging/logging@0.1.0-draft;
            import wasi:keyvalue/store@0.2.0-draft;
            import wasi:keyvalue/atomics@0.2.0-draft;
            import dagster-ray:host/model@0.1.0;
            import dagster-ray:host/sink@0.1.0;
            import dagster-ray:host/processes@0.1.0;
            import dagster-ray:host/packages@0.1.0;
            import dagster-ray:host/objects@0.1.0;
            import dagster-ray:host/tasks@0.1.0;
            export dagster-ray:backend/describe@0.1.0;
            export dagster-ray:backend/launcher@0.1.0;
            export dagster-ray:backend/executor@0.1.0;
            export dagster-ray:backend/cluster@0.1.0;
            export dagster-ray:backend/pipes@0.1.0;
            export dagster-ray:backend/io@0.1.0;
        }
    "#,
    path: "../../wit",
    world: "dagster-ray:runtime/contract",
    imports: { default: async | trappable },
    exports: { default: async },
    additional_derives: [serde::Serialize, serde::Deserialize],
    with: {
        "dagster-ray:host/sink.listener": crate::capability::sink::Listener,
        "dagster-ray:host/packages.source": crate::capability::packages::Source,
        "dagster-ray:host/objects.value": crate::capability::objects::Value,
        "dagster-ray:host/objects.store": crate::capability::objects::StoreHandle,
        "wasi:keyvalue/store.bucket": crate::capability::keyvalue::Bucket,
    },
});
