"""Which tests hold which section of the MLGym contract.

The tests of this folder begin with their section (`test_1_4_...`; `differs` where the kit does another thing on
purpose) and are not listed. `HELD` names the tests elsewhere, as file::test, by what the contract says. `OPEN` says
what no test holds, and why.
"""

TITLES = {
    "1.1": "task file", "1.2": "dataset file", "1.3": "reset", "1.4": "evaluation", "1.5": "validate, submit, endings",
    "1.6": "timeouts", "1.7": "turns, parser, commands", "1.8": "limits and models", "1.9": "files of a run",
    "2": "AUP", "5": "weaknesses of MLGym",
}

HELD: dict[str, dict[str, list[str]]] = {
    "1.1": {
        "keys, braces, files and classes that are wrong": ["test_task::test_faults_are_named"],
        "baseline scores are floats; metric and direction are known by the task's id": [
            "test_task::test_a_task_of_an_mlgym_checkout_needs_no_synthkit_yaml"],
        "secret files, also named from outside": [
            "test_task::test_answers_are_secret_and_the_rest_is_laid_out_as_mlgym_does",
            "test_submissions::test_secrets_and_fixed_files_can_be_named_from_outside"],
        "a task without an evaluation": ["test_scoring::test_tasks_that_cannot_be_scored_are_refused"],
        "texts survive being written": ["test_task::test_multi_line_texts_survive_yaml"],
    },
    "1.2": {
        "the second local dataset lands in data/<its name>": ["test_task::test_a_second_dataset_lands_in_the_first"],
        "braces in a dataset's description": ["test_task::test_a_written_task_reads_back_the_same"],
    },
    "1.3": {
        "two resets of one seed are the same": ["test_fork::test_resets_of_one_seed_are_the_same"],
        "the baseline is run where no score is stored": [
            "test_environment::test_an_mlgym_task_is_scored_whole_and_its_baseline_run_if_unknown"],
    },
    "1.4": {
        "table: missing, links, devices, folders": ["test_scoring::test_what_is_no_plain_file_is_not_taken"],
        "table: whole output is one object; NaN, timeout, exception": [
            "test_scoring::test_an_evaluation_that_goes_wrong"],
        "model: the first line that begins an object; which YAML; none": [
            "test_submissions::test_a_model_is_described_by_the_agents_yaml"],
        "language model: torchrun": ["test_submissions::test_a_language_model_is_evaluated_by_torchrun"],
        "Python: its code is called from outside": [
            "test_submissions::test_python_code_is_called_and_never_meets_the_evaluation",
            "test_submissions::test_a_python_episode_from_reset_to_submit"],
        "warnings on stderr": ["test_scoring::test_warnings_do_not_spoil_a_score"],
    },
    "1.5": {
        "validate and submit of a kit task: public and private rows": [
            "test_environment::test_an_episode_from_the_first_look_to_the_submission",
            "test_scoring::test_the_halves_are_scored_apart"],
        "an invalid submission ends without a score": ["test_environment::test_an_invalid_submission_says_why"],
        "every ending of a model's episode, scored, unreadable and missing": [
            "test_agent::test_whatever_ends_an_episode_what_lies_there_is_handed_in",
            "test_agent::test_what_cannot_be_scored_ends_without_a_score",
            "test_agent::test_the_agent_ends_the_episode_itself"],
        "<exception>, <message>, (<why>)": ["test_agent::test_an_evaluation_past_its_time_ends_the_episode"],
        "early_exit": ["test_agent::test_a_session_that_cannot_be_started_again_ends_the_episode_with_its_score"],
        "three bad replies": ["test_agent::test_three_malformed_replies_in_a_row_end_the_episode"],
        "an edit without its end": ["test_parsing::test_an_edit_without_its_end_takes_the_rest"],
        "recorded actions are played again": [
            "test_replay::test_every_answer_and_score_is_told",
            "test_replay::test_a_trajectory_is_played_again_to_its_forced_end"],
    },
    "1.6": {
        "a timeout keeps what was printed": [
            "test_environment::test_an_action_past_its_time_says_so_and_keeps_what_it_printed",
            "test_guest::test_a_timeout_keeps_the_output_and_ends_every_process"],
        "variables and functions outlive a timeout": ["test_limits::test_variables_outlive_what_was_stopped"],
    },
    "1.7": {
        "the first message and the turns": ["test_environment::test_the_model_is_told_the_task_and_where_it_stands"],
        "free text and one block": [
            "test_parsing::test_thought_is_the_rest_and_a_language_tag_is_allowed",
            "test_parsing::test_format_errors_say_what_is_wrong"],
        "<think>": ["test_parsing::test_a_think_block_is_dropped_whatever_it_holds"],
        "fences inside an edit or a here-document": [
            "test_parsing::test_a_here_document_may_hold_anything", "test_parsing::test_an_edit_may_hold_anything",
            "test_environment::test_editor_commands_and_shell_lines_in_one_action"],
        "XML, JSON and tool-call parsers": [
            "test_parsing::test_a_reply_in_its_format_is_read",
            "test_parsing::test_a_reply_out_of_its_format_says_what_is_wrong",
            "test_agent::test_an_episode_is_the_same_in_every_format"],
        "several commands in one action": ["test_parsing::test_editor_commands_and_shell_text_in_one_action"],
        "the last N observations; closed windows": [
            "test_history::test_older_observations_are_shortened_as_mlgym_does",
            "test_history::test_a_window_closes_when_a_later_one_shows_the_file"],
        "a long observation is cut (differs)": [
            "test_environment::test_numbers_and_long_outputs_are_shortened_for_the_model",
            "test_guest::test_long_output_keeps_head_and_tail"],
        "window, scrolling, searching, refusals": [
            "test_guest::test_the_editor_shows_a_window", "test_guest::test_the_editor_searches",
            "test_guest::test_the_editor_says_what_is_wrong"],
        "lint codes, and an edit that brings one is taken back": [
            "test_lint::test_each_fault_is_named", "test_lint::test_an_edit_that_is_refused_leaves_every_byte",
            "test_lint::test_what_was_there_stays_allowed"],
    },
    "1.8": {
        "the cost limit is looked at after a reply": [
            "test_agent::test_over_the_cost_limit_the_reply_is_kept_and_not_executed"],
        "an endpoint that fails for a while or for good": [
            "test_agent::test_whatever_ends_an_episode_what_lies_there_is_handed_in",
            "test_agent::test_an_endpoint_that_refuses_is_for_a_person"],
    },
    "1.9": {
        "keys of both files": ["test_trajectory::test_files_have_mlgyms_form_as_in_section_1_9_of_the_contract"],
        "what was handed in": ["test_trajectory::test_the_final_score_is_that_of_what_was_handed_in"],
        "a file of MLGym itself": ["test_trajectory::test_reads_a_trajectory_of_mlgym_itself"],
    },
    "2": {
        "all 26 published values": ["test_aup::test_reproduces_every_published_value"],
        "bootstrap": ["test_aup::test_bootstrap_is_seeded_and_holds_the_value"],
        "best and last of a run": ["test_mlgym_eval::test_public_scores_never_count_as_a_result"],
    },
    "5": {
        "labels by path": ["test_submissions::test_a_checkouts_table_is_scored_whole_and_its_labels_are_hidden"],
        "the rival and libraries are the task's own": [
            "test_submissions::test_the_opponent_and_libraries_are_the_tasks_own"],
        "cat, exit, printed markers": [
            "test_environment::test_leaving_the_shell_or_printing_markers_does_not_end_the_episode",
            "test_guest::test_a_command_that_reads_stdin_gets_none", "test_guest::test_a_shell_that_ends_is_replaced"],
        "a shell that is busy or broken": [
            "test_guest::test_a_busy_shell_is_ended_too", "test_guest::test_a_session_that_breaks_is_replaced"],
        "fork at a step, seeds": ["test_fork::test_a_fork_goes_on_from_the_same_point_and_apart"],
        "many environments at once, nothing left behind": [
            "test_sandbox::test_many_at_once", "test_sandbox::test_no_process_and_no_file_stays"],
    },
}

OPEN: dict[str, list[str]] = {
    "1.1": ["use_generic_conda and requirements_path: read and not acted on, no environment is made for a task",
            "sample_submission need not exist in a checkout", "memory_path and benchmark_name: carried along"],
    "1.2": ["data/ is not made read-only; scores are made with the task's own files"],
    "1.3": ["apt, conda and pip of MLGym's reset: there are none, and no network"],
    "1.6": ["the variables MLGYM_AGENT_*_TIMEOUT are not read; the time without output is not limited by itself"],
    "1.7": ["optional commands memory_read, memory_write, literature_search, parse_pdf_url, filemap: not built"],
    "1.9": ["names of run folders, args.yaml and the log: the kit's stages have their own"],
    "2": ["runs are not read from folders of MLGym's, as its step 1 does; the table of runs is the input"],
}
