//! Bindings of the exports of the contract in `wit/`. Each capability generates those of its imports.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::all)]

crate::wit::generate!(
    r#"
        package dagster-ray:runtime;
        world contract {
            export dagster-ray:backend/describe@0.1.0;
            export dagster-ray:backend/launcher@0.1.0;
            export dagster-ray:backend/executor@0.1.0;
            export dagster-ray:backend/cluster@0.1.0;
            export dagster-ray:backend/pipes@0.1.0;
            export dagster-ray:backend/reconciler@0.1.0;
            export dagster-ray:backend/io@0.1.0;
        }
    "#,
    with: {
        "dagster-ray:host/model": crate::model,
        "dagster-ray:host/objects": crate::capability::objects::bindings::dagster_ray::host::objects,
        "dagster-ray:host/reports": crate::capability::reports::bindings::dagster_ray::host::reports,
    }
);
