//! The tables, in the subset of types that both databases share: ids and JSON as text, times as naive UTC.

diesel::table! {
    entries (seq) {
        seq -> BigInt,
        id -> Text,
        occurred_at -> Timestamp,
        origin -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        resource_version -> Nullable<BigInt>,
        subject_id -> Nullable<Text>,
        subject_email -> Nullable<Text>,
        subject_name -> Nullable<Text>,
        actor_id -> Nullable<Text>,
        actor_email -> Nullable<Text>,
        actor_name -> Nullable<Text>,
        impersonation_id -> Nullable<Text>,
        note -> Nullable<Text>,
        changes -> Text,
        request_id -> Nullable<Text>,
    }
}

diesel::table! {
    users (id) {
        id -> Text,
        email -> Text,
        email_key -> Text,
        display_name -> Text,
        search -> Text,
        role -> Text,
        status -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    credentials (user_id) {
        user_id -> Text,
        password_hash -> Nullable<Text>,
        setup_token_hash -> Nullable<Text>,
        setup_expires_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    sessions (id) {
        id -> Text,
        subject_id -> Text,
        actor_id -> Nullable<Text>,
        original_session_id -> Nullable<Text>,
        mode -> Nullable<Text>,
        reason -> Nullable<Text>,
        ticket -> Nullable<Text>,
        client_ip -> Nullable<Text>,
        user_agent -> Nullable<Text>,
        started_at -> Timestamp,
        expires_at -> Timestamp,
        last_used_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        end_cause -> Nullable<Text>,
        ended_by_id -> Nullable<Text>,
        client_id -> Nullable<Text>,
        scope -> Nullable<Text>,
        audience -> Nullable<Text>,
        bound_permissions -> Nullable<Text>,
        bound_resources -> Nullable<Text>,
    }
}

diesel::table! {
    policies (id) {
        id -> Text,
        terms -> Text,
        frozen_at -> Nullable<Timestamp>,
        freeze_reason -> Nullable<Text>,
        frozen_by_id -> Nullable<Text>,
        version -> BigInt,
        updated_at -> Timestamp,
        entry_id -> Text,
    }
}

diesel::table! {
    clients (id) {
        id -> Text,
        name -> Text,
        status -> Text,
        secret_hash -> Nullable<Text>,
        old_secret_hash -> Nullable<Text>,
        old_secret_expires_at -> Nullable<Timestamp>,
        grants -> Text,
        scope -> Text,
        audiences -> Text,
        presenters -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        entry_id -> Text,
    }
}

diesel::table! {
    exchanged_sessions (id) {
        id -> Text,
        session_id -> Text,
        parent_id -> Nullable<Text>,
        source_kid -> Text,
        client_id -> Text,
        scope -> Text,
        audience -> Text,
        started_at -> Timestamp,
        expires_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        entry_id -> Text,
    }
}

diesel::table! {
    client_sessions (id) {
        id -> Text,
        client_id -> Text,
        scope -> Text,
        audience -> Text,
        started_at -> Timestamp,
        expires_at -> Timestamp,
        ended_at -> Nullable<Timestamp>,
        entry_id -> Text,
    }
}

diesel::table! {
    ways_back (impersonation_id) {
        impersonation_id -> Text,
        kid -> Text,
        signing_input -> Text,
        challenge -> Nullable<Text>,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    refresh_tokens (hash) {
        hash -> Text,
        session_id -> Text,
        expires_at -> Timestamp,
        replaced_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    keys (kid) {
        kid -> Text,
        purpose -> Text,
        algorithm -> Text,
        private_key -> Text,
        sealed -> Bool,
        created_at -> Timestamp,
        retired_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    refusals (caller_id, subject_id, minute) {
        caller_id -> Text,
        subject_id -> Text,
        minute -> Timestamp,
        entry_id -> Text,
        count -> BigInt,
    }
}

diesel::table! {
    articles (id) {
        id -> Text,
        title -> Text,
        #[sql_name = "abstract"]
        abstract_ -> Text,
        body -> Text,
        search -> Text,
        status -> Text,
        author_id -> Text,
        editor_id -> Nullable<Text>,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::joinable!(refresh_tokens -> sessions (session_id));
diesel::joinable!(credentials -> users (user_id));
diesel::joinable!(exchanged_sessions -> clients (client_id));
diesel::joinable!(client_sessions -> clients (client_id));
diesel::allow_tables_to_appear_in_same_query!(
    entries,
    users,
    credentials,
    sessions,
    ways_back,
    refresh_tokens,
    keys,
    refusals,
    articles,
    clients,
    exchanged_sessions,
    client_sessions,
    policies
);

// Tables under another name. Together, because only those of one list can stand in the same select.
diesel::alias!(
    users as subjects: SubjectAlias,
    users as actors: ActorAlias,
    users as enders: EnderAlias,
    users as authors: AuthorAlias,
    users as editors: EditorAlias,
    sessions as originals: OriginalAlias
);
