"""An exported checkpoint goes to the Hugging Face Hub, or to another server of its API
(HF_ENDPOINT), through huggingface_hub. The token is that library's: HF_TOKEN or `hf auth login`."""

from __future__ import annotations

from pathlib import Path

from geoagent_rl.types import InfraError, UserError


def push(folder: Path, repo: str) -> str:
    """Upload a folder as a model repository, made private where there is none yet; return its
    address. Raises UserError for a name that is none or a token that may not, InfraError where the
    server cannot be reached or fails.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api, again = (
        HfApi(),
        f"the checkpoint stays in {folder}: `hf upload {repo} {folder}` tries again",
    )
    try:
        address = api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Export of GeoAgent-RL")
    except HFValidationError as error:
        raise UserError(f"--push {repo} names no repository: {_line(error)}") from None
    except OfflineModeIsEnabled:
        raise UserError(f"{repo} was not uploaded, HF_HUB_OFFLINE is set; {again}") from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise UserError(
                f"the hub refuses {repo}: set HF_TOKEN to a token that may write there; {again}"
            ) from None
        raise InfraError(f"{repo} could not be uploaded: {_line(error)}; {again}") from error
    except (httpx.HTTPError, OSError) as error:
        raise InfraError(f"{repo} could not be uploaded: {_line(error)}; {again}") from error
    return str(address)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
