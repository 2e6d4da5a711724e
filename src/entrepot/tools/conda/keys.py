"""The names of conda's settings: which hold a list, and what a name that is none was meant to be.

Source: ``conda config --describe --json``, conda 26.7. Plugins bring more: a name that resembles
none of these is let through.
"""

from __future__ import annotations

LISTS = frozenset(
    (
        "aggressive_update_packages allowlist_channels channels create_default_packages "
        "default_channels denylist_channels disallowed_packages envs_dirs experimental "
        "export_platforms list_fields migrated_channel_aliases pinned_packages pkgs_dirs preview "
        "repodata_fns shortcuts_only subdirs track_features whitelist_channels"
    ).split()
)
"""Keys that hold a list of texts."""
_OTHERS = frozenset(
    (
        "add_anaconda_token add_binstar_token add_pip_as_python_dependency allow_non_channel_urls "
        "allow_softlinks always_copy always_softlink always_yes anaconda_upload auto_activate "
        "auto_activate_base auto_stack auto_update_conda bld_path changeps1 channel_alias "
        "channel_priority channel_settings client_ssl_cert client_ssl_cert_key conda_build console "
        "croot custom_channels custom_multichannels default_activation_env default_threads "
        "env_prompt environment_specifier envvars_force_uppercase exclude_newer "
        "exclude_newer_package execute_threads extra_safety_checks fetch_threads force_32bit "
        "force_reinstall json local_repodata_ttl migrated_custom_channels no_lock no_plugins "
        "non_admin_enabled notify_outdated_conda number_channel_notices offline "
        "override_channels_enabled override_virtual_packages path_conflict "
        "prefix_data_interoperability proxy_servers quiet register_envs remote_backoff_factor "
        "remote_connect_timeout_secs remote_max_retries remote_read_timeout_secs repodata_threads "
        "repodata_use_shards repodata_use_zst report_errors rollback_enabled root_prefix "
        "safety_checks separate_format_cache shortcuts show_channel_urls signing_metadata_url_base "
        "solver ssl_verify unsatisfiable_hints unsatisfiable_hints_check_depth use_only_tar_bz2 "
        "verbosity verify_threads"
    ).split()
)


def meant(name: str) -> str:
    """The setting that a misspelt name stands for; empty when it is one, or resembles none.

    >>> meant("pkgs_dir"), meant("pkgs_dirs"), meant("my_plugins_key")
    ('pkgs_dirs', '', '')
    """
    if name in LISTS or name in _OTHERS:
        return ""
    import difflib  # noqa: PLC0415  # only for a name that is none

    close = difflib.get_close_matches(
        name.lower().replace("-", "_"), [*LISTS, *_OTHERS], n=1, cutoff=0.85
    )
    return close[0] if close else ""
