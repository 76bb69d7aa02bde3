	add	x21, x10, w7, sxtw #2
	ldp	q15, q14, [x21]
	ldp	q13, q12, [x21, #32]
	ldp	q11, q10, [x21, #64]
	ldr	q9, [x21, #96]
	add	x21, x11, w19, sxtw #2
	ldp	q1, q2, [x21]
	fmla	v8.4s, v1.4s, v15.s[0]
	fmla	v25.4s, v2.4s, v15.s[0]
	fmla	v31.4s, v1.4s, v14.s[0]
	fmla	v30.4s, v1.4s, v13.s[0]
	fmla	v29.4s, v1.4s, v12.s[0]
	fmla	v28.4s, v1.4s, v11.s[0]
	fmla	v27.4s, v1.4s, v10.s[0]
	fmla	v26.4s, v1.4s, v9.s[0]
	ldp	q1, q3, [x21, #32]
	fmla	v18.4s, v1.4s, v15.s[0]
	fmla	v24.4s, v2.4s, v14.s[0]
	fmla	v17.4s, v1.4s, v14.s[0]
	fmla	v23.4s, v2.4s, v13.s[0]
	fmla	v16.4s, v1.4s, v13.s[0]
	fmla	v22.4s, v2.4s, v12.s[0]
	fmla	v7.4s, v1.4s, v12.s[0]
	fmla	v21.4s, v2.4s, v11.s[0]
	fmla	v6.4s, v1.4s, v11.s[0]
	fmla	v20.4s, v2.4s, v10.s[0]
	fmla	v5.4s, v1.4s, v10.s[0]
	fmla	v19.4s, v2.4s, v9.s[0]
	fmla	v4.4s, v1.4s, v9.s[0]
	ldp	q1, q2, [x21, #64]
	fmla	v8.4s, v3.4s, v15.s[1]
	fmla	v25.4s, v1.4s, v15.s[1]
	fmla	v18.4s, v2.4s, v15.s[1]
	fmla	v31.4s, v3.4s, v14.s[1]
	fmla	v24.4s, v1.4s, v14.s[1]
	fmla	v17.4s, v2.4s, v14.s[1]
	fmla	v30.4s, v3.4s, v13.s[1]
	fmla	v23.4s, v1.4s, v13.s[1]
	fmla	v16.4s, v2.4s, v13.s[1]
	fmla	v29.4s, v3.4s, v12.s[1]
	fmla	v22.4s, v1.4s, v12.s[1]
	fmla	v7.4s, v2.4s, v12.s[1]
	fmla	v28.4s, v3.4s, v11.s[1]
	fmla	v21.4s, v1.4s, v11.s[1]
	fmla	v6.4s, v2.4s, v11.s[1]
	fmla	v27.4s, v3.4s, v10.s[1]
	fmla	v20.4s, v1.4s, v10.s[1]
	fmla	v5.4s, v2.4s, v10.s[1]
	fmla	v26.4s, v3.4s, v9.s[1]
	fmla	v19.4s, v1.4s, v9.s[1]
	fmla	v4.4s, v2.4s, v9.s[1]
	ldp	q1, q2, [x21, #96]
	fmla	v8.4s, v1.4s, v15.s[2]
	fmla	v25.4s, v2.4s, v15.s[2]
	fmla	v31.4s, v1.4s, v14.s[2]
	fmla	v30.4s, v1.4s, v13.s[2]
	fmla	v29.4s, v1.4s, v12.s[2]
	fmla	v28.4s, v1.4s, v11.s[2]
	fmla	v27.4s, v1.4s, v10.s[2]
	fmla	v26.4s, v1.4s, v9.s[2]
	ldp	q1, q3, [x21, #128]
	fmla	v18.4s, v1.4s, v15.s[2]
	fmla	v24.4s, v2.4s, v14.s[2]
	fmla	v17.4s, v1.4s, v14.s[2]
	fmla	v23.4s, v2.4s, v13.s[2]
	fmla	v16.4s, v1.4s, v13.s[2]
	fmla	v22.4s, v2.4s, v12.s[2]
	fmla	v7.4s, v1.4s, v12.s[2]
	fmla	v21.4s, v2.4s, v11.s[2]
	fmla	v6.4s, v1.4s, v11.s[2]
	fmla	v20.4s, v2.4s, v10.s[2]
	fmla	v5.4s, v1.4s, v10.s[2]
	fmla	v19.4s, v2.4s, v9.s[2]
	fmla	v4.4s, v1.4s, v9.s[2]
	ldp	q1, q2, [x21, #160]
	fmla	v8.4s, v3.4s, v15.s[3]
	fmla	v25.4s, v1.4s, v15.s[3]
	fmla	v18.4s, v2.4s, v15.s[3]
	fmla	v31.4s, v3.4s, v14.s[3]
	fmla	v24.4s, v1.4s, v14.s[3]
	fmla	v17.4s, v2.4s, v14.s[3]
	fmla	v30.4s, v3.4s, v13.s[3]
	fmla	v23.4s, v1.4s, v13.s[3]
	fmla	v16.4s, v2.4s, v13.s[3]
	fmla	v29.4s, v3.4s, v12.s[3]
	fmla	v22.4s, v1.4s, v12.s[3]
	fmla	v7.4s, v2.4s, v12.s[3]
	fmla	v28.4s, v3.4s, v11.s[3]
	fmla	v21.4s, v1.4s, v11.s[3]
	fmla	v6.4s, v2.4s, v11.s[3]
	fmla	v27.4s, v3.4s, v10.s[3]
	fmla	v20.4s, v1.4s, v10.s[3]
	fmla	v5.4s, v2.4s, v10.s[3]
	fmla	v26.4s, v3.4s, v9.s[3]
	fmla	v19.4s, v1.4s, v9.s[3]
	subs	x20, x20, #1
	add	w19, w19, #48
	add	w7, w7, #784
	fmla	v4.4s, v2.4s, v9.s[3]
	b.ne	.LBB4_5
	mov	w7, wzr
	fmax	v1.4s, v8.4s, v0.4s
	add	w6, w6, w4
	fmax	v2.4s, v31.4s, v0.4s
	fmax	v3.4s, v30.4s, v0.4s
	add	x6, x0, w6, sxtw #2
	stp	q1, q2, [x6]
	fmax	v1.4s, v29.4s, v0.4s
	stp	q3, q1, [x6, #32]
	fmax	v1.4s, v28.4s, v0.4s
	fmax	v2.4s, v27.4s, v0.4s
	stp	q1, q2, [x6, #64]
	fmax	v1.4s, v26.4s, v0.4s
	str	q1, [x6, #96]
	fmax	v1.4s, v25.4s, v0.4s
	str	q1, [x6, #3136]
	fmax	v1.4s, v24.4s, v0.4s
	str	q1, [x6, #3152]
	fmax	v1.4s, v23.4s, v0.4s
	str	q1, [x6, #3168]
	fmax	v1.4s, v22.4s, v0.4s
	str	q1, [x6, #3184]
	fmax	v1.4s, v21.4s, v0.4s
	str	q1, [x6, #3200]
	fmax	v1.4s, v20.4s, v0.4s
	str	q1, [x6, #3216]
	fmax	v1.4s, v19.4s, v0.4s
	str	q1, [x6, #3232]
	fmax	v1.4s, v18.4s, v0.4s
	str	q1, [x6, #6272]
	fmax	v1.4s, v17.4s, v0.4s
	str	q1, [x6, #6288]
	fmax	v1.4s, v16.4s, v0.4s
	str	q1, [x6, #6304]
	fmax	v1.4s, v7.4s, v0.4s
	str	q1, [x6, #6320]
	fmax	v1.4s, v6.4s, v0.4s
	str	q1, [x6, #6336]
	fmax	v1.4s, v5.4s, v0.4s
	str	q1, [x6, #6352]
	fmax	v1.4s, v4.4s, v0.4s
	str	q1, [x6, #6368]
	mov	w6, #28
	tbnz	w5, #0, .LBB4_4
	add	w1, w1, #1
	add	w3, w3, #56
	cmp	w1, #14
	b.ne	.LBB4_3
	add	x12, x12, #1
	add	w14, w14, #3072
	cmp	w8, w12
	b.ne	.LBB4_2
	ldp	x20, x19, [sp, #128]
	ldr	x21, [sp, #112]
	ldp	d9, d8, [sp, #96]
	ldp	d11, d10, [sp, #80]
	ldp	d13, d12, [sp, #64]
	ldp	d15, d14, [sp, #48]
	add	sp, sp, #144