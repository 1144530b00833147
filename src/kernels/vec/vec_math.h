/* vec_math.h — exp, softplus and the activations on vectors. Bounds are against the exact value and are tested in
 * tests/kernels/test_vec_math.c; NaN gives NaN everywhere. */
#ifndef ZB_VEC_MATH_H
#define ZB_VEC_MATH_H

/* exp(x), relative error below 2e-7; 0 below -104, infinity above 89, denormal results right to their last bit or two.
 *   x = n ln2 + r, |r| <= ln2 / 2;  exp(x) = 2^n (1 + r + r^2 P(r)),  P minimax of degree 4 */
INLINE vf v_exp(vf x)
{
    const vf lo = v_set1(-104.0f), hi = v_set1(89.0f), magic = v_set1(0x1.8p23f);
    x = v_select(x < lo, lo, x);
    x = v_select(x > hi, hi, x);
    /* adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits */
    const vf shifted = v_fma(x, v_set1(1.44269504f), magic);
    const vf n = shifted - magic;
    vf r = v_fma(n, v_set1(-0.693359375f), x); /* ln2 in two parts, the first with few bits: exact product */
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    vf p = v_fma(v_set1(1.3950602e-3f), r, v_set1(8.3689531e-3f));
    p = v_fma(p, r, v_set1(4.1666206e-2f));
    p = v_fma(p, r, v_set1(1.66665182e-1f));
    p = v_fma(p, r, v_set1(0.5f));
    p = v_fma(p, r * r, r) + v_set1(1.0f);
    /* 2^n in two factors: n reaches -151 and 129, outside one exponent field */
    const vi whole = (vi)((vu)shifted - (vu)magic);
    const vi half = whole >> 1;
    const vu bias = (vu)v_set1(1.0f);
    return p * (vf)(((vu)half << 23) + bias) * (vf)((((vu)whole - (vu)half) << 23) + bias);
}

/* 1 / (1 + exp(-x)) */
INLINE vf v_sigmoid(vf x)
{
    const vf one = v_set1(1.0f);
    return one / (one + v_exp(-x));
}

INLINE vf v_silu(vf x)
{
    return x / (v_set1(1.0f) + v_exp(-x));
}

INLINE vf v_abs(vf x)
{
    return (vf)((vu)x & 0x7FFFFFFFu);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(u), u = exp(-|x|) <= 1; log1p(u) = u P(u), minimax of degree 9. Relative error
 * below 4e-7. Past 20 the second term is under half a unit of the last place, which is torch's threshold. */
INLINE vf v_softplus(vf x)
{
    const vf u = v_exp(-v_abs(x));
    vf p = v_fma(v_set1(-3.2440043e-3f), u, v_set1(1.98514535e-2f));
    p = v_fma(p, u, v_set1(-5.6959517e-2f));
    p = v_fma(p, u, v_set1(1.06036537e-1f));
    p = v_fma(p, u, v_set1(-1.53055922e-1f));
    p = v_fma(p, u, v_set1(1.96759388e-1f));
    p = v_fma(p, u, v_set1(-2.49541342e-1f));
    p = v_fma(p, u, v_set1(3.33299637e-1f));
    p = v_fma(p, u, v_set1(-4.99999017e-1f));
    p = v_fma(p, u, v_set1(1.0f));
    return v_fma(p, u, v_select(x < v_zero(), v_zero(), x));
}

/* Phi(x), the normal distribution, absolute error below 2e-7.
 *   t = |x| / sqrt 2;  erfc(t) = exp(-t Q(t)), Q minimax of degree 8 on [0, 5], weighted by erfc
 * The negative side is formed from erfc itself, so it has no cancellation. */
INLINE vf v_normal(vf x)
{
    const vf five = v_set1(5.0f);
    const vf t = v_abs(x) * 0.70710678f;
    const vf c = v_select(t > five, five, t);
    vf q = v_fma(v_set1(-8.0436139e-6f), c, v_set1(1.06024352e-4f));
    q = v_fma(q, c, v_set1(-5.87940624e-4f));
    q = v_fma(q, c, v_set1(1.57673785e-3f));
    q = v_fma(q, c, v_set1(-5.87544637e-5f));
    q = v_fma(q, c, v_set1(-1.92171615e-2f));
    q = v_fma(q, c, v_set1(1.02799214e-1f));
    q = v_fma(q, c, v_set1(6.36616111e-1f));
    q = v_fma(q, c, v_set1(1.12837934f));
    const vf tail = v_exp(-t * q) * 0.5f;
    return v_select(x > v_zero(), v_set1(1.0f) - tail, tail);
}

/* x * Phi(x), absolute error below 2e-7 max(1, |x|). At minus infinity it is NaN, as in torch. */
INLINE vf v_gelu(vf x)
{
    return x * v_normal(x);
}

/* 0.5 x (1 + tanh(y)) = x sigmoid(2y) */
INLINE vf v_gelu_tanh(vf x)
{
    return x * v_sigmoid(x * 1.59576912f * v_fma(x * x, v_set1(0.044715f), v_set1(1.0f)));
}

INLINE vf v_activate(vf x, zb_act act)
{
    switch (act) {
    case ZB_ACT_GELU:
        return v_gelu(x);
    case ZB_ACT_SILU:
        return v_silu(x);
    case ZB_ACT_GELU_TANH:
        return v_gelu_tanh(x);
    case ZB_ACT_RELU:
        break;
    }
    return v_select(x < v_zero(), v_zero(), x);
}

/* The derivative of silu: s (1 + x (1 - s)). */
INLINE vf v_silu_slope(vf x)
{
    const vf one = v_set1(1.0f), s = v_sigmoid(x);
    return s * v_fma(x, one - s, one);
}

/* act(x), and its derivative in *slope (ref/glu_backward.c). */
INLINE vf v_activate_back(vf x, zb_act act, vf *slope)
{
    const vf one = v_set1(1.0f);
    vf s = v_select(x > v_zero(), one, v_zero());
    switch (act) {
    case ZB_ACT_GELU:
        s = v_normal(x);
        *slope = v_fma(x * 0.39894228f, v_exp(x * x * -0.5f), s);
        return x * s;
    case ZB_ACT_SILU:
        s = v_sigmoid(x);
        *slope = s * v_fma(x, one - s, one);
        return x * s;
    case ZB_ACT_GELU_TANH:
        s = v_sigmoid(x * 1.59576912f * v_fma(x * x, v_set1(0.044715f), one));
        *slope = v_fma(x * s * (one - s) * 1.59576912f, v_fma(x * x, v_set1(0.134145f), one), s);
        return x * s;
    case ZB_ACT_RELU:
        break;
    }
    *slope = s;
    return v_select(x < v_zero(), v_zero(), x);
}

#endif
