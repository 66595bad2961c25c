// llama.cpp as a contender: its library called as its own llama-batched-bench calls it (prompts of
// random tokens, one prompt copied to all sequences, whole steps timed, no sampling), but in one
// process that keeps the weights, so that it can take turns with others at short intervals. With
// `text` it says a given text, guessing ahead as its llama-speculative-simple does.
//
//     llamacpp MODEL LOAD_MODE THREADS SEQUENCES CONTEXT      the last two: what the cache must hold
//
// Lines in: `prefill TOKENS`, `decode BATCH CONTEXT TOKENS`, `text FILE SPECULATION`, where FILE has
// how many ids the prompt has, and the ids of prompt and answer, and SPECULATION is none,
// ngram-simple, ngram-map-k, ngram-map-k4v, ngram-mod or ngram-cache, with llama.cpp's defaults.
// Lines out, as JSON: {"rate": tokens a second}, and for a text "steps" beside it.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "common.h"
#include "llama.h"
#include "speculative.h"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "llamacpp: %s\n", what);
  std::exit(1);
}

struct Contender {
  llama_context* context;
  llama_memory_t memory;
  int vocabulary;
  int copied_tokens = 0, copied_sequences = 0;  // what the cache holds: a prompt, so often
  std::string cached_text;

  llama_token any() const { return 1000 + std::rand() % (vocabulary - 10000); }

  void run(common_batch& batch) {
    const int most = llama_n_batch(context);
    for (int from = 0; from < batch.size(); from += most) {
      const int count = std::min(most, batch.size() - from);
      if (llama_process(context, LLAMA_PROCESS_TYPE_DECODE, batch.get_sub_batch(from, count)))
        fail("llama_process");
    }
    llama_synchronize(context);
  }

  void prompt(int tokens) {
    llama_memory_clear(memory, false);
    cached_text.clear();
    common_batch batch(context);
    for (int i = 0; i < tokens; i++) batch.add(any(), i, 0, i == tokens - 1);
    run(batch);
    copied_tokens = tokens, copied_sequences = 1;
  }

  double prefill(int tokens) {
    const double start = now();
    prompt(tokens);
    return tokens / (now() - start);
  }

  void forget_after(int tokens) {
    for (int j = 0; j < copied_sequences; j++) llama_memory_seq_rm(memory, j, tokens, -1);
  }

  double decode(int sequences, int tokens_before, int tokens) {
    common_batch batch(context);
    if (copied_tokens != tokens_before) prompt(tokens_before);
    forget_after(tokens_before);
    if (copied_sequences < sequences) {
      for (; copied_sequences < sequences; copied_sequences++)
        llama_memory_seq_cp(memory, 0, copied_sequences, -1, -1);
      batch.add(any(), tokens_before, 0, true);
      run(batch);  // the copies are made by the next step
      forget_after(tokens_before);
    }
    const double start = now();
    for (int i = 0; i < tokens; i++) {
      batch.clear();
      for (int j = 0; j < sequences; j++) batch.add(any(), tokens_before + i, j, true);
      run(batch);
    }
    return sequences * tokens / (now() - start);
  }

  std::pair<double, int> text(const std::string& path, const std::string& kind) {
    std::ifstream file(path);
    size_t before = 0;
    file >> before;
    llama_tokens all;
    for (llama_token id; file >> id;) all.push_back(id);
    if (before < 2 || all.size() < before + 2) fail("no such text");

    common_params_speculative params;
    params.types = {common_speculative_type_from_name(kind)};
    common_speculative* guesser =
        kind == "none" ? nullptr : common_speculative_init(params, 1);
    if (kind != "none" && !guesser) fail("no such speculation");

    // the prompt and the answer's first token are there; the clock runs to the last token
    llama_tokens said(all.begin(), all.begin() + before);
    common_batch batch(context);
    if (cached_text != path) {
      llama_memory_clear(memory, false);
      copied_tokens = copied_sequences = 0;
      for (size_t i = 0; i < before; i++) batch.add(all[i], i, 0, i == before - 1);
      run(batch);
      cached_text = path;
    }
    llama_memory_seq_rm(memory, 0, before, -1);
    if (guesser) common_speculative_begin(guesser, 0, said);
    size_t next = before;  // of the token that was said last and not computed yet
    int steps = 0;
    llama_tokens draft;
    const double start = now();
    while (next + 1 < all.size()) {
      draft.clear();
      if (guesser) {
        common_speculative_get_draft_params(guesser, 0) = {
            true, int(all.size() - next) - 2, llama_pos(next), all[next], &said, &draft};
        common_speculative_draft(guesser);
      }
      batch.clear();
      batch.add(all[next], next, 0, true);
      for (size_t i = 0; i < draft.size(); i++) batch.add(draft[i], next + 1 + i, 0, true);
      run(batch);
      if (guesser && !common_speculative_process(guesser, batch)) fail("speculation");
      size_t right = 0;
      while (right < draft.size() && draft[right] == all[next + 1 + right]) right++;
      for (size_t i = 0; i <= right; i++) {  // the greedy choice of each row that counts
        const float* logits = llama_get_logits_ith(context, i);
        volatile float most = *std::max_element(logits, logits + vocabulary);
        (void)most;
      }
      if (guesser && !draft.empty()) common_speculative_accept(guesser, 0, right);
      said.insert(said.end(), all.begin() + next, all.begin() + next + right + 1);
      next += right + 1;
      llama_memory_seq_rm(memory, 0, next, -1);
      steps++;
    }
    const double taken = now() - start;
    if (guesser) common_speculative_free(guesser);
    return {(all.size() - before - 1) / taken, steps};
  }
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 6) fail("MODEL LOAD_MODE THREADS SEQUENCES CONTEXT");
  llama_backend_init();
  llama_model_params model_params = llama_model_default_params();
  model_params.load_mode = llama_load_mode_from_str(arguments[2]);
  llama_model* model = llama_model_load_from_file(arguments[1], model_params);
  if (!model) fail("cannot load the model");
  llama_context_params params = llama_context_default_params();
  params.n_threads = params.n_threads_batch = std::atoi(arguments[3]);
  params.n_seq_max = std::atoi(arguments[4]);
  params.n_ctx = params.n_seq_max * std::atoi(arguments[5]);
  params.n_batch = 2048;
  params.n_ubatch = 512;
  llama_context* context = llama_init_from_model(model, params);
  if (!context) fail("cannot make a context");
  Contender contender{context, llama_get_memory(context),
                      llama_vocab_n_tokens(llama_model_get_vocab(model))};
  std::printf("{\"ready\": true}\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string work, path, kind;
    int a = 0, b = 0, c = 0;
    words >> work;
    if (work == "prefill" && words >> a)
      std::printf("{\"rate\": %f}\n", contender.prefill(a));
    else if (work == "decode" && words >> a >> b >> c)
      std::printf("{\"rate\": %f}\n", contender.decode(a, b, c));
    else if (work == "text" && words >> path >> kind) {
      const auto [rate, steps] = contender.text(path, kind);
      std::printf("{\"rate\": %f, \"steps\": %d}\n", rate, steps);
    } else
      fail("no such work");
    std::fflush(stdout);
  }
  llama_free(context);
  llama_model_free(model);
}
