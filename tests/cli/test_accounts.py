"""The demo's accounts notice what is lost, done twice, or not delivered."""

from clara_dicom_adapter.cli.demo.accounts import Accounts, Export, Job, delivered, in_jobs
from clara_dicom_adapter.cli.demo.modality import Sent, Stack


def sent(*uids: str) -> Sent:
    return Sent(Stack("MIP", "files", ()), acknowledged=set(uids), instances=len(uids))


def job(*inputs: str, ae_title: str = "MIP", pipeline: str = "mip") -> Job:
    return Job("j", "name", ae_title, pipeline, "STOPPED", "HEALTHY", inputs, 1.0)


def test_everything_in_one_job_matches() -> None:
    assert in_jobs("MIP", "mip", [sent("1", "2")], [job("1", "2")]).ok


def test_what_is_in_no_job_of_this_ae_title_and_pipeline_is_lost() -> None:
    others = [job("1"), job("2", pipeline="bone-seg"), job("2", ae_title="CT")]
    check = in_jobs("MIP", "mip", [sent("1", "2")], others)
    assert not check.ok
    assert (check.expected, check.found, check.difference) == (2, 1, ("not in any job: 2",))


def test_an_instance_in_two_jobs_is_told() -> None:
    check = in_jobs("MIP", "mip", [sent("1", "2")], [job("1", "2"), job("2")])
    assert not check.ok
    assert check.difference == ("in 2 jobs: 2",)


def test_an_instance_that_was_sent_again_too_late_may_be_there_twice_but_not_three_times() -> None:
    mine = [sent("1")]
    assert in_jobs("MIP", "mip", mine, [job("1"), job("1")], {"1"}).ok
    assert not in_jobs("MIP", "mip", mine, [job("1"), job("1"), job("1")], {"1"}).ok


def test_an_instance_sent_in_two_associations_makes_two_groups() -> None:
    assert in_jobs("MIP", "mip", [sent("1"), sent("1")], [job("1"), job("1")]).ok


def test_results_that_did_not_arrive_and_that_nobody_made_are_told() -> None:
    accounts = Accounts(exports=[Export("t", "j", "Exported", ("1", "2"))], at_pacs={"2", "3"})
    check = delivered(accounts)
    assert not check.ok
    assert check.difference == ("did not arrive: 1", "nobody made: 3")


def test_accounts_without_any_check_are_not_all_right() -> None:
    assert not Accounts().ok
