/* The losses of preferences. Formulas: TRL 1.16.0, DPOTrainer, CPOTrainer, ORPOTrainer, RewardTrainer; docs/TRAINERS.md has each with its
 * paper.
 *
 *   loss = 1 / n_pairs sum over pairs of sum over terms of weight v(x_c, x_r) w_c w_r
 *          + (weights of sft terms and nll) mean over the chosen tokens of the step of -logp
 *
 * v: formula_NAME of the term's row; x: what its row says of a side (see_side): s(score - reference) with the divergence's
 * s, or a sum or mean of log-probs. w: with weighting, constants. The derivative of the loss by a side's score is
 * v' x' / n_pairs, and it is what each of the score's tokens weighs.
 *
 * h = beta (x_c - x_r), e = label_smoothing, S the logistic function, log S its log.
 *
 * A reward model's: -log S(x_c - x_r - margin) + centre (x_c + x_r)^2, x the score of its head; its derivative by a score
 * is that of the score itself.
 *
 * aot sorts: d_k = (k-th smallest lp_c - lp_r) - (k-th smallest ref_c - ref_r); aot_unpaired: of x_c and of x_r; over the
 * pairs of the step, where TRL sorts those of a micro-batch. */
#include "train/preference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static double sigmoid(double x) { return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x)); }
static double log_sigmoid(double x) { return x >= 0.0 ? -log1p(exp(-x)) : x - log1p(exp(x)); }
static double square(double x) { return x * x; }

/* ---- Formulas of a pair ---- */

/* What a formula sees, and what it gives. */
struct pair_view {
    double x_c, x_r;
    double n_c, n_r; /* tokens, at least 1 */
    double margin;
    double value, d_c, d_r;
    double odds; /* out, of ORPO */
};
typedef void pair_formula(const struct preference_config *config, struct pair_view *pair);

/* Of a value that depends on h = beta (x_c - x_r) alone. */
static void by_margin(const struct preference_config *config, struct pair_view *pair, double value, double slope)
{
    pair->value = value;
    pair->d_c = config->beta * slope;
    pair->d_r = -pair->d_c;
}

static double margin(const struct preference_config *config, const struct pair_view *pair)
{
    return config->beta * (pair->x_c - pair->x_r);
}

static void formula_sigmoid(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair);
    by_margin(config, pair, -log_sigmoid(h), -sigmoid(-h));
}

/* -(1 - e) log S(h) - e log S(-h) */
static void formula_smoothed(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair), e = config->label_smoothing;
    by_margin(config, pair, -(1.0 - e) * log_sigmoid(h) - e * log_sigmoid(-h),
              -(1.0 - e) * sigmoid(-h) + e * sigmoid(h));
}

static void formula_hinge(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair);
    const bool active = !(h >= 1.0); /* a NaN too */
    by_margin(config, pair, active ? 1.0 - h : 0.0, active ? -1.0 : 0.0);
}

/* (x_c / n_c - x_r / n_r - 1 / (2 beta))^2 */
static void formula_squared_means(const struct preference_config *config, struct pair_view *pair)
{
    const double u = pair->x_c / pair->n_c - pair->x_r / pair->n_r - 0.5 / config->beta;
    pair->value = square(u);
    pair->d_c = 2.0 * u / pair->n_c;
    pair->d_r = -2.0 * u / pair->n_r;
}

/* (x_c - x_r - 1 / (2 beta))^2 */
static void formula_squared(const struct preference_config *config, struct pair_view *pair)
{
    const double u = pair->x_c - pair->x_r - 0.5 / config->beta;
    pair->value = square(u);
    pair->d_c = 2.0 * u;
    pair->d_r = -2.0 * u;
}

/* S(h) (log S(h) - log(1 - e)) + S(-h) (log S(-h) - log e) */
static void formula_exo(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair), e = config->label_smoothing;
    const double up = log_sigmoid(h) - log1p(-e), down = log_sigmoid(-h) - log(e), p = sigmoid(h), q = sigmoid(-h);
    by_margin(config, pair, p * up + q * down, p * q * (up - down));
}

/* -log S(x_c beta) - (log S(-x_c beta) + log S(-x_r beta)) / 2 */
static void formula_nca(const struct preference_config *config, struct pair_view *pair)
{
    const double c = config->beta * pair->x_c, r = config->beta * pair->x_r;
    pair->value = -log_sigmoid(c) - 0.5 * log_sigmoid(-c) - 0.5 * log_sigmoid(-r);
    pair->d_c = config->beta * (0.5 * sigmoid(c) - sigmoid(-c));
    pair->d_r = config->beta * 0.5 * sigmoid(r);
}

/* (-(1 - e) log S(h) + e log S(-h)) / (1 - 2 e) */
static void formula_robust(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair), e = config->label_smoothing, scale = 1.0 / (1.0 - 2.0 * e);
    by_margin(config, pair, scale * (-(1.0 - e) * log_sigmoid(h) + e * log_sigmoid(-h)),
              -scale * ((1.0 - e) * sigmoid(-h) + e * sigmoid(h)));
}

static void formula_bco(const struct preference_config *config, struct pair_view *pair)
{
    const double c = config->beta * pair->x_c, r = config->beta * pair->x_r;
    pair->value = -log_sigmoid(c) - log_sigmoid(-r);
    pair->d_c = -config->beta * sigmoid(-c);
    pair->d_r = config->beta * sigmoid(r);
}

static void formula_sppo(const struct preference_config *config, struct pair_view *pair)
{
    const double c = pair->x_c - 0.5 / config->beta, r = pair->x_r + 0.5 / config->beta;
    pair->value = square(c) + square(r);
    pair->d_c = 2.0 * c;
    pair->d_r = 2.0 * r;
}

static double sigmoid_slope(double x) { return sigmoid(x) * sigmoid(-x); }

static void formula_apo_zero(const struct preference_config *config, struct pair_view *pair)
{
    const double c = config->beta * pair->x_c, r = config->beta * pair->x_r;
    pair->value = sigmoid(-c) + sigmoid(r);
    pair->d_c = -config->beta * sigmoid_slope(c);
    pair->d_r = config->beta * sigmoid_slope(r);
}

static void formula_apo_down(const struct preference_config *config, struct pair_view *pair)
{
    const double c = config->beta * pair->x_c, h = margin(config, pair);
    pair->value = sigmoid(c) + sigmoid(-h);
    pair->d_c = config->beta * (sigmoid_slope(c) - sigmoid_slope(h));
    pair->d_r = config->beta * sigmoid_slope(h);
}

/* -log S(h) (1 - m) + e^-h m, m = S(h / tau) */
static void formula_discopop(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair), tau = config->discopop_tau, m = sigmoid(h / tau),
                 slope = sigmoid_slope(h / tau) / tau, decay = exp(-h);
    by_margin(config, pair, -log_sigmoid(h) * (1.0 - m) + decay * m,
              -sigmoid(-h) * (1.0 - m) + log_sigmoid(h) * slope - decay * m + decay * slope);
}

static void formula_sigmoid_means(const struct preference_config *config, struct pair_view *pair)
{
    const double h = config->beta * (pair->x_c / pair->n_c - pair->x_r / pair->n_r);
    pair->value = -log_sigmoid(h);
    pair->d_c = -config->beta * sigmoid(-h) / pair->n_c;
    pair->d_r = config->beta * sigmoid(-h) / pair->n_r;
}

/* smoothed at h - gamma */
static void formula_simpo(const struct preference_config *config, struct pair_view *pair)
{
    const double h = margin(config, pair) - config->simpo_gamma, e = config->label_smoothing;
    by_margin(config, pair, -(1.0 - e) * log_sigmoid(h) - e * log_sigmoid(-h),
              -(1.0 - e) * sigmoid(-h) + e * sigmoid(h));
}

/* log(1 - e^x) for x <= 0 */
static double log_not(double x) { return x < -0.6931471805599453 ? log1p(-exp(x)) : log(-expm1(x)); }

/* -beta log S(lo), lo = (x_c - x_r) - (log(1 - e^x_c) - log(1 - e^x_r)); d lo / d x_c = 1 / (1 - e^x_c) */
static void formula_odds(const struct preference_config *config, struct pair_view *pair)
{
    const double lo = (pair->x_c - pair->x_r) - (log_not(pair->x_c) - log_not(pair->x_r));
    pair->odds = lo;
    pair->value = -config->beta * log_sigmoid(lo);
    pair->d_c = config->beta * sigmoid(-lo) / expm1(pair->x_c);
    pair->d_r = -config->beta * sigmoid(-lo) / expm1(pair->x_r);
}

/* -log S(x_c - x_r - margin) + centre (x_c + x_r)^2 */
static void formula_reward(const struct preference_config *config, struct pair_view *pair)
{
    const double h = pair->x_c - pair->x_r - pair->margin, sum = pair->x_c + pair->x_r;
    pair->value = -log_sigmoid(h) + config->centre * square(sum);
    pair->d_c = -sigmoid(-h) + 2.0 * config->centre * sum;
    pair->d_r = sigmoid(-h) + 2.0 * config->centre * sum;
}

static void formula_sorted(const struct preference_config *config, struct pair_view *pair)
{
    (void)config;
    (void)pair;
    assert(false); /* apply_sorted */
}

static void formula_single(const struct preference_config *config, struct pair_view *pair)
{
    (void)config;
    (void)pair;
    assert(false); /* apply_singles */
}

static void formula_none(const struct preference_config *config, struct pair_view *pair)
{
    (void)config;
    (void)pair;
    assert(false); /* tokens */
}

/* ---- The table ---- */

enum input { input_ratio, input_sum, input_mean, input_tokens, input_score };
struct loss_row {
    pair_formula *formula;
    enum input input;
    bool divergence;
    const char *word;
};
#define ROW(id, word, formula, input, divergence) {formula_##formula, input_##input, divergence, word},
static const struct loss_row rows[N_PREFERENCE_LOSSES] = {PREFERENCE_LOSS_LIST(ROW)};
#undef ROW

static bool is_sorted(enum preference_loss loss) { return rows[loss].formula == formula_sorted; }

bool preference_needs_reference(const struct preference_config *config)
{
    for (int32_t i = 0; i < config->n_terms; i++)
        if (rows[config->terms[i].loss].input == input_ratio || rows[config->terms[i].loss].input == input_tokens)
            return true; /* sft reads none, but its metrics do */
    return false;
}

bool preference_spans(const struct preference_config *config)
{
    for (int32_t i = 0; i < config->n_terms; i++)
        if (is_sorted(config->terms[i].loss))
            return true;
    return false;
}

bool preference_is_single(const struct preference_config *config)
{
    return rows[config->terms[0].loss].formula == formula_single;
}

bool preference_needs_kl(const struct preference_config *config) { return config->terms[0].loss == PREFERENCE_KTO; }

bool preference_scores(const struct preference_config *config)
{
    return rows[config->terms[0].loss].input == input_score;
}

cohort_status preference_check(const struct preference_config *config, cohort_error *err)
{
    const double e = config->label_smoothing;
    for (int32_t i = 0; i < config->n_terms; i++) {
        const enum preference_loss loss = config->terms[i].loss;
        const struct loss_row *row = &rows[loss];
        if (config->divergence != PREFERENCE_DIVERGENCE_REVERSE_KL && !row->divergence && row->input == input_ratio)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "f_divergence_type changes the log-ratios of other losses than %s: leave it at reverse_kl",
                             row->word);
        if (config->weighting && is_sorted(loss))
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "use_weighting weighs pairs, and %s sorts their sides apart: leave one of the two out",
                             row->word);
        if (loss == PREFERENCE_EXO_PAIR && e <= 0.0)
            return error_set(err, COHORT_ERR_ARGUMENT,
                             "exo_pair takes the log of label_smoothing: give one above 0, for example 0.001");
        if (loss == PREFERENCE_ROBUST && e >= 0.5)
            return error_set(err, COHORT_ERR_ARGUMENT, "robust divides by 1 - 2 label_smoothing: give less than 0.5");
    }
    return COHORT_OK;
}

/* ---- What a formula sees of a side ---- */

/* s of the divergence, and its derivative. */
static double diverge(const struct preference_config *config, double lr, double *slope)
{
    const double MOST_EXPONENT = 80.0; /* TRL's, of 32-bit floats */
    const double a = config->alpha_coef - 1.0;
    *slope = 1.0;
    switch (config->divergence) {
    case PREFERENCE_DIVERGENCE_REVERSE_KL: break;
    case PREFERENCE_DIVERGENCE_FORWARD_KL: *slope = exp(-lr); return -expm1(-lr);
    case PREFERENCE_DIVERGENCE_JS: *slope = sigmoid(-lr); return 0.6931471805599453 + log_sigmoid(lr);
    case PREFERENCE_DIVERGENCE_ALPHA:
        if (fabs(a) < 1e-6)
            break;
        *slope = a * lr > MOST_EXPONENT ? 0.0 : exp(a * lr);
        return expm1(a * lr > MOST_EXPONENT ? MOST_EXPONENT : a * lr) / a;
    }
    return lr;
}

/* The value and its derivative by the score. */
static double see_side(const struct preference_config *config, const struct loss_row *row,
                       const struct preference_side *side, double *slope)
{
    const double n = side->n > 0 ? (double)side->n : 1.0, share = row->input == input_mean ? 1.0 / n : 1.0;
    const double a = side->score * share;
    *slope = share;
    if (row->input == input_ratio && row->divergence)
        return diverge(config, side->score - side->reference, slope);
    if (row->input == input_ratio)
        return side->score - side->reference;
    if (config->alpha == 0.0 || row->formula == formula_odds || row->input == input_score)
        return a;
    *slope = share * exp(-config->alpha * a); /* of (1 - p^-alpha) / alpha, p = e^a */
    return -expm1(-config->alpha * a) / config->alpha;
}

double preference_reward(const struct preference_config *config, const struct preference_side *side)
{
    double slope;
    const struct loss_row *row = &rows[config->terms[0].loss];
    if (row->input == input_score)
        return side->score;
    if (row->input == input_ratio || row->input == input_tokens)
        return config->beta * (side->score - side->reference);
    return config->beta * see_side(config, row, side, &slope);
}

double preference_logp(const struct preference_config *config, const struct preference_side *side)
{
    const bool mean = rows[config->terms[0].loss].input == input_mean;
    return mean && side->n > 0 ? side->score / (double)side->n : side->score;
}

/* ---- Terms ---- */

static void apply_pairs(const struct preference_config *config, const struct preference_scale *scale,
                        const struct loss_row *row, double weight, struct preference_pair *pairs, int32_t n,
                        struct preference_sums *sums)
{
    for (int32_t i = 0; i < n; i++) {
        struct preference_side *c = &pairs[i].chosen, *r = &pairs[i].rejected;
        const double each = weight * (config->weighting ? c->weight * r->weight : 1.0);
        double slope_c, slope_r;
        struct pair_view view = {
            .margin = pairs[i].margin, .n_c = c->n > 0 ? (double)c->n : 1.0, .n_r = r->n > 0 ? (double)r->n : 1.0};
        view.x_c = see_side(config, row, c, &slope_c);
        view.x_r = see_side(config, row, r, &slope_r);
        row->formula(config, &view);
        pairs[i].loss += each * view.value;
        c->d_score += each * view.d_c * slope_c / (double)scale->n_pairs;
        r->d_score += each * view.d_r * slope_r / (double)scale->n_pairs;
        if (row->formula == formula_odds) {
            sums->odds += view.odds;
            sums->log_odds += log_sigmoid(view.odds);
        }
    }
}

/* Wanted: 1 - S(beta (x - kl)); not wanted: 1 - S(beta (kl - x)); the kl is a constant. */
static void apply_singles(const struct preference_config *config, const struct preference_scale *scale,
                          const struct loss_row *row, struct preference_pair *pairs, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const bool wanted = pairs[i].wanted;
        struct preference_side *side = wanted ? &pairs[i].chosen : &pairs[i].rejected;
        const double weight = wanted ? config->desirable : config->undesirable, sign = wanted ? 1.0 : -1.0;
        double slope;
        const double x = see_side(config, row, side, &slope), h = sign * config->beta * (x - scale->kl);
        pairs[i].loss += weight * sigmoid(-h);
        side->d_score -= weight * sign * config->beta * sigmoid_slope(h) * slope / (double)scale->n_pairs;
    }
}

static int by_value(const void *a, const void *b)
{
    const struct preference_order *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

static void apply_sorted(const struct preference_config *config, const struct preference_scale *scale,
                         enum preference_loss loss, double weight, struct preference_pair *pairs, int32_t n,
                         struct preference_order *order)
{
    struct preference_order *first = order, *second = order + n;
    const bool unpaired = loss == PREFERENCE_AOT_UNPAIRED;
    const double e = config->label_smoothing;
    for (int32_t i = 0; i < n; i++) {
        const struct preference_side *c = &pairs[i].chosen, *r = &pairs[i].rejected;
        first[i].value = unpaired ? c->score - c->reference : c->score - r->score;
        second[i].value = unpaired ? r->score - r->reference : c->reference - r->reference;
        first[i].pair = second[i].pair = i;
    }
    qsort(first, (size_t)n, sizeof *first, by_value);
    qsort(second, (size_t)n, sizeof *second, by_value);
    for (int32_t k = 0; k < n; k++) {
        const double h = config->beta * (first[k].value - second[k].value);
        const double slope =
            weight * config->beta * (-(1.0 - e) * sigmoid(-h) + e * sigmoid(h)) / (double)scale->n_pairs;
        pairs[first[k].pair].loss += weight * (-(1.0 - e) * log_sigmoid(h) - e * log_sigmoid(-h));
        pairs[first[k].pair].chosen.d_score += slope;
        pairs[unpaired ? second[k].pair : first[k].pair].rejected.d_score -= slope;
    }
}

/* The mean negative log-prob of the chosen tokens. */
static void apply_tokens(const struct preference_config *config, const struct preference_scale *scale, double weight,
                         struct preference_pair *pairs, int32_t n)
{
    const double each = weight / (double)(scale->n_chosen > 0 ? scale->n_chosen : 1);
    for (int32_t i = 0; i < n; i++) {
        pairs[i].chosen.d_sum -= each;
        pairs[i].d_prompt -= config->nll_prompts ? each : 0.0;
    }
}

void preference_apply(const struct preference_config *config, const struct preference_scale *scale,
                      struct preference_pair *pairs, int32_t n, struct preference_sums *sums,
                      struct preference_order *order)
{
    double tokens = config->nll;
    for (int32_t i = 0; i < n; i++) {
        pairs[i].loss = pairs[i].d_prompt = 0.0;
        pairs[i].chosen.d_score = pairs[i].chosen.d_sum = pairs[i].rejected.d_score = pairs[i].rejected.d_sum = 0.0;
    }
    for (int32_t k = 0; k < config->n_terms; k++) {
        const enum preference_loss loss = config->terms[k].loss;
        if (rows[loss].input == input_tokens)
            tokens += config->terms[k].weight;
        else if (rows[loss].formula == formula_single)
            apply_singles(config, scale, &rows[loss], pairs, n);
        else if (is_sorted(loss))
            apply_sorted(config, scale, loss, config->terms[k].weight, pairs, n, order);
        else
            apply_pairs(config, scale, &rows[loss], config->terms[k].weight, pairs, n, sums);
    }
    if (tokens != 0.0)
        apply_tokens(config, scale, tokens, pairs, n);
    for (int32_t i = 0; preference_scores(config) && i < n; i++) {
        const double c = pairs[i].chosen.score, r = pairs[i].rejected.score;
        const bool first = i == 0 && sums->chosen == 0;
        sums->least = fmin(first ? c : sums->least, fmin(c, r));
        sums->most = fmax(first ? c : sums->most, fmax(c, r));
    }
    for (int32_t i = 0; i < n; i++) {
        const struct preference_pair *pair = &pairs[i];
        const struct preference_side *c = &pair->chosen, *r = &pair->rejected;
        const double reward_c = preference_reward(config, c), reward_r = preference_reward(config, r);
        sums->loss += pair->loss / (double)scale->n_pairs + c->d_sum * c->sum + pair->d_prompt * pair->prompt;
        sums->nll -= c->sum + (config->nll_prompts ? pair->prompt : 0.0);
        if (!pair->single || pair->wanted) {
            sums->chosen++;
            sums->reward_chosen += reward_c;
            sums->logp_chosen += preference_logp(config, c);
        }
        if (!pair->single || !pair->wanted) {
            sums->rejected++;
            sums->reward_rejected += reward_r;
            sums->logp_rejected += preference_logp(config, r);
        }
        sums->accuracy += !pair->single && reward_c > reward_r ? 1.0 : 0.0;
    }
}
