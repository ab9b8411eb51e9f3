//! How Dagster runs and steps become Ray jobs: the rules that backends share.
